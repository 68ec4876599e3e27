//! Who comes in, and for how long: HTTP/1.1 over TCP, with TLS or without, or a unix socket, one request for each connection.
//!
//! Every caller has a **seat**; there are [`SEATS`], which is what bounds memory and open files. Who is slow to say what it wants, or to hang
//! up once it was told, gives way to who comes next, the oldest first: however many keep connections open, who asks is answered.
//! Of those who were heard, [`ANSWERS`] at a time are answered; who is slow to take its answer gives way as soon as somebody waits for one.
//! Must never ask core itself, nor decide who may look: that is the guard's.

use super::guard;
use super::head::{self, HEAD_BYTES, Refusal};
use super::rounds::Rounds;
use crate::memory;
use axum::Router;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use smolotchi_operator::{Code, log};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The most callers at once. One that says nothing costs some 5 KiB, one that says much and means nothing some 20; with TLS 30 more.
const SEATS: usize = 256;
/// The most that are answered at once: an answer can be a MiB.
const ANSWERS: usize = 16;
/// How long a caller may take to say what it wants, TLS included.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take, from when the caller was heard until it has all.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// How long a caller may take to take its answer while others wait for theirs.
const TAKE_TIME: Duration = Duration::from_secs(1);
/// How long a caller may take to hang up once it was answered, and how much it may say meanwhile: hung up on while it speaks, it could lose
/// the answer.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
/// What the kernel keeps of an answer for a caller that doesn't take it (it keeps twice as much, for its own book-keeping).
const SEND_BYTES: usize = 32 * 1024;
/// What a dead caller's connection is given up after, also by the kernel when it alone still holds what was sent.
const DEAD_TIME: Duration = Duration::from_secs(20);
/// How long a stop waits for a caller that has not said anything yet.
const SPEAK_TIME: Duration = Duration::from_millis(250);
/// How long a stop waits for answers under way.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How many callers make it worth to tidy up.
const MANY: u32 = 8;

/// Where callers come from.
pub(super) enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
    /// A TCP socket whose callers speak TLS.
    Tls(TcpListener, TlsAcceptor),
}

/// What all listeners share.
pub(super) struct Door {
    router: Router,
    seats: Arc<Semaphore>,
    answers: Semaphore,
    /// How many that were heard wait to be answered.
    queue: watch::Sender<usize>,
    idle: Idle,
    rounds: Rounds,
}

/// Those who wait for nobody but their caller, by age.
#[derive(Default)]
struct Idle(Mutex<(u64, BTreeMap<u64, oneshot::Sender<()>>)>);

/// A place among them; given back when dropped.
struct Turn<'a>(&'a Idle, u64);

impl Idle {
    /// Does what needs the caller, for so long at most. `None`: that was not enough, or another needed the seat.
    async fn wait<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (sender, given_away) = oneshot::channel();
        let _turn = {
            let mut idle = self.0.lock().ok()?;
            idle.0 += 1;
            let number = idle.0;
            idle.1.insert(number, sender);
            Turn(self, number)
        };
        tokio::select! {
            done = tokio::time::timeout(time, work) => done.ok(),
            _ = given_away => None,
        }
    }

    /// Takes the seat of the oldest, if there is one.
    fn hang_up(&self) {
        if let Ok(mut idle) = self.0.lock() {
            idle.1.pop_first();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Ok(mut idle) = self.0.0.lock() {
            idle.1.remove(&self.1);
        }
    }
}

/// A caller's connection.
trait Line: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// What is under it, where that is TCP.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Hangs up so that the kernel keeps nothing of it either.
    fn cut(&self) {
        if let Some(tcp) = self.tcp() {
            let _ = tcp.set_zero_linger();
        }
    }
}

impl Line for UnixStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl Line for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Line for TlsStream<TcpStream> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }
}

/// A connection that says again what was heard from it.
struct Again<'a, S> {
    heard: &'a [u8],
    line: &'a mut S,
}

impl<S: Line> AsyncRead for Again<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.heard.is_empty() {
            return Pin::new(&mut *self.line).poll_read(context, buffer);
        }
        let (now, later) = self.heard.split_at(self.heard.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.heard = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: Line> AsyncWrite for Again<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.line).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.line).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut *self.line).poll_flush(context))?;
        Pin::new(&mut *self.line).poll_shutdown(context)
    }
}

/// The router, which says when it has made an answer.
struct Site {
    router: TowerToHyperService<Router>,
    made: Arc<Notify>,
}

impl Service<hyper::Request<Incoming>> for Site {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let (answer, made) = (self.router.call(request), self.made.clone());
        Box::pin(async move {
            let answer = answer.await;
            made.notify_one();
            answer
        })
    }
}

impl Door {
    pub(super) fn new(router: Router, rounds: Rounds) -> Arc<Door> {
        let (seats, answers) = (Arc::new(Semaphore::new(SEATS)), Semaphore::new(ANSWERS));
        Arc::new(Door { router, seats, answers, queue: watch::Sender::new(0), idle: Idle::default(), rounds })
    }

    /// What systemd is told.
    pub(super) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Serves a listener until `stop` is true, then finishes the answers under way. Calls `quiet` when many callers have come and then none for
    /// a while, and once after the start.
    pub(super) async fn serve(self: Arc<Self>, listener: Listener, quiet: impl Fn(), mut stop: watch::Receiver<bool>) {
        let mut calls = JoinSet::new();
        let mut came = MANY;
        let mut round = self.rounds.join();
        loop {
            while calls.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = self.accept(&listener, stop.clone()) => accepted,
                () = tokio::time::sleep(memory::QUIET), if came >= MANY => {
                    came = 0;
                    quiet();
                    continue;
                }
                () = round.due() => {
                    round.went();
                    continue;
                }
                _ = stop.wait_for(|stop| *stop) => break,
            };
            came = came.saturating_add(1);
            let call = match accepted {
                Ok(call) => call,
                Err(error) => {
                    log::warning(Code::Io, format!("could not accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let seats = self.seats.clone();
            if seats.available_permits() == 0 {
                self.idle.hang_up();
            }
            let seat = tokio::select! {
                seat = seats.acquire_owned() => seat,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            calls.spawn(async move {
                call.await;
                drop(seat);
            });
        }
        let _ = tokio::time::timeout(DRAIN_TIME, async { while calls.join_next().await.is_some() {} }).await;
    }

    async fn accept(self: &Arc<Self>, listener: &Listener, stop: watch::Receiver<bool>) -> std::io::Result<Call> {
        let door = self.clone();
        Ok(match listener {
            Listener::Unix(listener) => {
                let (line, _) = listener.accept().await?;
                Box::pin(async move { door.call(async { Some(line) }, stop).await })
            }
            Listener::Tcp(listener) => {
                let line = tcp(listener).await?;
                Box::pin(async move { door.call(async { Some(line) }, stop).await })
            }
            Listener::Tls(listener, tls) => {
                let line = tls.accept(tcp(listener).await?);
                Box::pin(async move { door.call(async { line.await.ok() }, stop).await })
            }
        })
    }

    /// One caller, from its first byte on.
    async fn call<S: Line>(&self, line: impl Future<Output = Option<S>>, stop: watch::Receiver<bool>) {
        let mut stopped = stop.clone();
        let silent = async {
            let _ = stopped.wait_for(|stop| *stop).await;
            // Whoever was let in a moment ago is about to say what it wants: hung up on now, it would see a failed request.
            tokio::time::sleep(SPEAK_TIME).await;
        };
        let heard = async {
            let mut line = line.await?;
            let heard = hear(&mut line).await?;
            Some((line, heard))
        };
        let heard = self.idle.wait(HEAD_TIME, async {
            tokio::select! {
                heard = heard => heard,
                () = silent => None,
            }
        });
        let Some(Some((mut line, heard))) = heard.await else { return };
        let given = match heard {
            Ok(head) => self.answer(&head, &mut line).await,
            Err(refusal) => tokio::time::timeout(TAKE_TIME, refuse(refusal, &mut line)).await.is_ok_and(|told| told.is_ok()),
        };
        if !given || !self.linger(&mut line, stop).await {
            line.cut();
        }
    }

    /// Answers what was asked. False: the caller went away, took too long, or gave way.
    async fn answer<S: Line>(&self, head: &[u8], line: &mut S) -> bool {
        let turn = match self.answers.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                self.queue.send_modify(|waiting| *waiting += 1);
                let turn = self.answers.acquire().await;
                self.queue.send_modify(|waiting| *waiting -= 1);
                turn
            }
        };
        let Ok(_turn) = turn else { return false };
        let made = Arc::new(Notify::new());
        let mut queue = self.queue.subscribe();
        let slow = async {
            made.notified().await;
            tokio::time::sleep(TAKE_TIME).await;
            let _ = queue.wait_for(|waiting| *waiting > 0).await;
        };
        let site = Site { router: TowerToHyperService::new(self.router.clone()), made: made.clone() };
        let connection = http1::Builder::new()
            .keep_alive(false)
            .half_close(true)
            .timer(TokioTimer::new())
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Again { heard: head, line }), site);
        tokio::select! {
            given = tokio::time::timeout(ANSWER_TIME, connection) => given.is_ok_and(|given| given.is_ok()),
            () = slow => false,
        }
    }

    /// Waits for the caller to hang up. False: it has to be hung up on.
    async fn linger<S: Line>(&self, line: &mut S, mut stop: watch::Receiver<bool>) -> bool {
        let mut rest = LINGER_BYTES;
        let mut piece = [0; 1024];
        let over = async {
            while let Ok(read) = line.read(&mut piece).await {
                rest = rest.saturating_sub(read);
                if read == 0 || rest == 0 {
                    break;
                }
            }
        };
        tokio::select! {
            over = self.idle.wait(LINGER_TIME, over) => over.is_some(),
            _ = stop.wait_for(|stop| *stop) => true,
        }
    }
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn tcp(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (line, _) = listener.accept().await?;
    // Without them the kernel keeps megabytes for each, and tries for a quarter of an hour. Failing changes nothing else.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&line, SEND_BYTES);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&line, DEAD_TIME.as_millis() as u32);
    Ok(line)
}

/// Hears a caller out: the whole head of its request, or why it is refused. `None`: it went away.
async fn hear<S: Line>(line: &mut S) -> Option<Result<Vec<u8>, Refusal>> {
    let mut heard = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let room = piece.len().min(HEAD_BYTES - heard.len());
        let read = line.read(&mut piece[..room]).await.ok().filter(|read| *read > 0)?;
        let seen = heard.len();
        heard.extend_from_slice(&piece[..read]);
        match head::end(&heard, seen) {
            Ok(None) => {}
            Ok(Some(end)) => {
                // What comes after it is nobody's: the connection ends with the answer.
                heard.truncate(end);
                return Some(head::judge(&heard).map(|()| heard));
            }
            Err(refusal) => return Some(Err(refusal)),
        }
    }
}

/// Tells why there is no answer, with the headers that every answer has.
async fn refuse<S: Line>(refusal: Refusal, line: &mut S) -> std::io::Result<()> {
    let Refusal { status, why } = refusal;
    let mut text = format!("HTTP/1.1 {} {}\r\nconnection: close\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    for (name, value) in &guard::HEADERS {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        text.push_str("allow: GET, HEAD\r\n");
    }
    text.push_str(&format!("content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{why}\n", why.len() + 1));
    line.write_all(text.as_bytes()).await?;
    line.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A server of some listeners, its stop, and their addresses.
    async fn served(router: Router, listeners: usize) -> (JoinSet<()>, watch::Sender<bool>, Vec<std::net::SocketAddr>) {
        let door = Door::new(router, Rounds::new(crate::notify::Notify::default()));
        let (stop, stopped) = watch::channel(false);
        let (mut served, mut addresses) = (JoinSet::new(), Vec::new());
        for _ in 0..listeners {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            served.spawn(door.clone().serve(Listener::Tcp(listener), || {}, stopped.clone()));
        }
        (served, stop, addresses)
    }

    fn hello() -> Router {
        Router::new().route("/", get(async || "hello"))
    }

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(DRAIN_TIME, caller.read_to_string(&mut answer)).await.expect("never answered").unwrap();
        answer
    }

    /// Whether the server hung up on who said nothing.
    async fn is_hung_up(caller: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(1), caller.read(&mut [0; 16])).await.is_ok()
    }

    #[tokio::test]
    async fn who_was_let_in_before_a_stop_is_answered() {
        let (mut served, stop, addresses) = served(hello(), 1).await;
        let mut caller = TcpStream::connect(addresses[0]).await.unwrap();
        // Those who wait for the stop: the server, the next caller's place, and twice this caller.
        while stop.receiver_count() < 4 {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        // A caller on a busy machine takes a moment to speak.
        tokio::time::sleep(SPEAK_TIME / 10).await;
        caller.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer:?}");
        served.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_does_not_hold_up_a_stop() {
        let (mut served, stop, addresses) = served(hello(), 1).await;
        let _caller = TcpStream::connect(addresses[0]).await.unwrap();
        while stop.receiver_count() < 4 {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        tokio::time::timeout(DRAIN_TIME / 2, served.join_next()).await.expect("the stop waited for an idle caller").unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_a_seat_only_while_there_are_others() {
        let (_served, _stop, addresses) = served(hello(), 2).await;
        let mut idle = Vec::new();
        for index in 0..SEATS {
            idle.push(TcpStream::connect(addresses[index % 2]).await.unwrap());
            // Half of them begin, and never end.
            if index % 2 == 0 {
                idle[index].write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
            }
        }
        assert!(!is_hung_up(&mut idle[0]).await, "there was a seat for each");
        for _ in 0..3 {
            assert!(ask(addresses[1]).await.ends_with("hello"));
        }
        let mut gone = 0;
        for caller in &mut idle {
            gone += u32::from(is_hung_up(caller).await);
        }
        assert!((1..=3).contains(&gone), "{gone} had to go");
        assert!(is_hung_up(&mut idle[0]).await || is_hung_up(&mut idle[1]).await, "the oldest");
    }

    #[tokio::test]
    async fn who_does_not_take_its_answer_gives_way_once_another_waits() {
        // More than the kernel keeps for a caller.
        let large = || async { vec![b'x'; 16 << 20] };
        let (_served, _stop, addresses) = served(hello().route("/large", get(large)), 1).await;
        let mut slow = Vec::new();
        for _ in 0..ANSWERS {
            let mut caller = TcpStream::connect(addresses[0]).await.unwrap();
            caller.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            caller.readable().await.unwrap();
            slow.push(caller);
        }
        let before = tokio::time::Instant::now();
        assert!(ask(addresses[0]).await.ends_with("hello"));
        assert!(before.elapsed() < TAKE_TIME * 3);
        let mut all = Vec::new();
        assert!(slow[0].read_to_end(&mut all).await.is_err(), "cut off, and told so");
        // Nobody waits: who is as slow is let be.
        let mut caller = TcpStream::connect(addresses[0]).await.unwrap();
        caller.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(TAKE_TIME * 3 / 2).await;
        caller.read_to_end(&mut all).await.unwrap();
        assert!(all.len() > 16 << 20);
    }

    #[tokio::test]
    async fn no_more_are_answered_at_once_than_there_is_memory_for() {
        let under_way = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = {
            let (under_way, most) = (under_way.clone(), most.clone());
            move || {
                let (under_way, most) = (under_way.clone(), most.clone());
                async move {
                    use std::sync::atomic::Ordering::SeqCst;
                    most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    under_way.fetch_sub(1, SeqCst);
                    "hello"
                }
            }
        };
        let (_served, _stop, addresses) = served(Router::new().route("/", get(count)), 3).await;
        let mut crowd = JoinSet::new();
        for index in 0..ANSWERS * 6 {
            crowd.spawn(ask(addresses[index % 3]));
        }
        assert!(crowd.join_all().await.iter().all(|answer| answer.ends_with("hello")));
        assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), ANSWERS);
    }

    #[tokio::test]
    async fn who_says_more_than_it_should_still_hears_why() {
        let (_served, _stop, addresses) = served(hello(), 1).await;
        let mut caller = TcpStream::connect(addresses[0]).await.unwrap();
        caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        caller.write_all(&vec![b'x'; 100_000]).await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_loop_that_stands_still_is_not_pinged_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = tokio::net::UnixDatagram::bind(&path).unwrap();
        let pinged = async |within| {
            let mut heard = [0; 64];
            let heard = tokio::time::timeout(within, systemd.recv(&mut heard)).await.map(|size| heard[..size.unwrap()].to_vec());
            heard.is_ok_and(|heard| heard == b"WATCHDOG=1")
        };
        let notify =
            crate::notify::Notify::new(std::os::unix::net::SocketAddr::from_pathname(&path).ok(), Some(Duration::from_millis(100)));
        let door = Door::new(hello(), Rounds::new(notify));
        let (_stop, stopped) = watch::channel(false);
        let (mut served, mut addresses) = (JoinSet::new(), Vec::new());
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            served.spawn(door.clone().serve(Listener::Tcp(listener), || {}, stopped.clone()));
        }
        for _ in 0..3 {
            assert!(pinged(DRAIN_TIME).await, "loops that wait for callers go round");
        }
        // Nobody gives way: the one loop waits for a seat, the other one goes on.
        let seats = door.seats.clone().acquire_many_owned(SEATS as u32).await.unwrap();
        let waiting = tokio::spawn(ask(addresses[0]));
        while pinged(Duration::from_secs(1)).await {}
        assert!(!pinged(Duration::from_millis(500)).await, "no ping while one of them stands still");
        drop(seats);
        assert!(pinged(DRAIN_TIME).await, "and again once it goes on");
        assert!(waiting.await.unwrap().ends_with("hello"));
    }
}
