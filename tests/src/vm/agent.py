# Runs on the virtual machine (tests/src/vm): reads one request a line from the port that the host sees as a socket, runs its script by sh, and
# answers with one line. Asked again and again until it answers, so what came before it was up may be lost.
import json
import os
import subprocess
import time

port = os.open("/dev/virtio-ports/lab", os.O_RDWR)
rest = b""


def run(script, seconds):
    child = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=seconds)
        status = child.returncode if child.returncode >= 0 else 128 - child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        child.kill()
        out, err = child.communicate()
        status = 124
    return status, out.decode(errors="replace"), err.decode(errors="replace")


while True:
    part = os.read(port, 65536)
    if not part:
        # Nobody is connected on the other side.
        time.sleep(0.05)
        continue
    rest += part
    while b"\n" in rest:
        line, rest = rest.split(b"\n", 1)
        try:
            asked = json.loads(line)
        except ValueError:
            continue
        try:
            status, out, err = run(asked["script"], asked["seconds"])
        except OSError as error:
            status, out, err = 126, "", str(error)
        answer = json.dumps({"id": asked["id"], "status": status, "stdout": out, "stderr": err}).encode() + b"\n"
        while answer:
            answer = answer[os.write(port, answer) :]
