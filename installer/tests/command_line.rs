//! The command line of the program as it is: mistakes end with 2, in the format that was asked for.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test runs the program itself, and fails by panicking")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smolotchi-install")).args(args).output().unwrap()
}

#[test]
fn a_wrong_command_line_is_told_in_the_format_that_was_asked_for() {
    for args in [["--format", "json", "nonsense"].as_slice(), &["nonsense", "--format=json"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        let said: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(
            (&said["error"]["code"], &said["error"]["message"]),
            (&"cli.usage".into(), &"unrecognized subcommand 'nonsense'".into())
        );
    }
    let output = run(&["nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: unrecognized subcommand 'nonsense'\n"));
}

#[test]
fn help_that_nobody_got_is_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_smolotchi-install")).arg("--help").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(10));
}
