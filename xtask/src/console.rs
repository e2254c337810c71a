//! What xtask says: one plain line per thing done, on standard error, so that output meant for pipes stays clean.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "xtask is a command for people")]

use std::time::Duration;

/// One thing that was done, and how long it took.
pub(crate) fn did(name: &str, what: &str, time: Duration) {
    eprintln!("setup: {name}: {what} ({:.1} s)", time.as_secs_f64());
}

/// A remark.
pub(crate) fn note(text: &str) {
    eprintln!("xtask: {text}");
}

/// A result: what the command was run for.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Text as it is, without a line end.
pub(crate) fn pass_on(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    // A closed pipe shows at the next print.
    drop(std::io::stdout().flush());
}
