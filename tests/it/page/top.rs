//! `podmeter top` against a real Podmeter: in a pipe, on a terminal, and where there is nothing to show.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Output, Stdio},
};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::Exporter,
    fake_cgroups::FakeCgroups,
    page_server::{Reply, serve},
    tools::{podmeter, write},
};
use rustix::process::{Pid, Signal, kill_process};

use super::web::guarded;

const BUSY: &str = "system.slice/busy.service";
const CALM: &str = "system.slice/calm.service";

/// What leaves the screen of its own, as terminals have it since xterm.
const LEAVES_SCREEN: &str = "\u{1b}[?1049l";

fn top(words: &[&str]) -> Option<Command> {
    let mut command = Command::new(podmeter()?);
    command.arg("top").args(words);
    Some(command)
}

fn outcome(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn rows_in_a_pipe_say_who_is_throttled() {
    let Some(binary) = podmeter() else { return };
    let cgroups = FakeCgroups::make(&[(CALM, 0), (BUSY, 200)]);
    let exporter = Exporter::start(&binary, &cgroups.config());
    let words = ["--url", exporter.address(), "--interval", "1s", "--once"];
    let output = top(&words).expect("there is a binary").output().expect("it starts");
    let (success, stdout, stderr) = outcome(&output);
    assert!(success, "{stderr}");
    let rows: Vec<Vec<&str>> =
        stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..3], ["container", "throttled(ms/s)", "run-queue(ms/s)"], "{stdout}");
    assert_eq!(rows[1][0], format!("/{BUSY}"), "the greatest is first: {stdout}");
    let throttled: f64 = rows[1][1].parse().expect("a number");
    assert!(throttled > 0.0, "{stdout}");
    assert_eq!(rows[1][2], "-", "what is not measured has no number: {stdout}");
    let calm = rows.iter().find(|row| row[0] == format!("/{CALM}")).expect("it is there");
    assert_eq!(calm[1], "0.0");
    let widths: Vec<usize> = stdout.lines().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "columns are aligned: {stdout}");
}

/// A reader that has enough ends it without an error.
#[test]
fn it_goes_on_until_the_reader_goes() {
    let Some(binary) = podmeter() else { return };
    let cgroups = FakeCgroups::make(&[(BUSY, 200)]);
    let exporter = Exporter::start(&binary, &cgroups.config());
    let mut command = top(&["--url", exporter.address(), "--interval", "500ms"]).expect("a binary");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while seen.matches("container ").count() < 2 {
        let n_bytes = stdout.read(&mut buffer).expect("it can be read");
        assert!(n_bytes > 0, "it ended early: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n_bytes]));
    }
    drop(stdout);
    let (success, _, stderr) = outcome(&child.wait_with_output().expect("it ends"));
    assert!(success, "{stderr}");
}

/// By TLS with a client certificate and a password, as a guarded endpoint asks for them.
#[test]
fn a_guarded_endpoint_is_watched_by_tls() {
    let Some(binary) = podmeter() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = guarded(folder.path());
    let cgroups = FakeCgroups::make(&[(BUSY, 200)]);
    let web = folder.path().join("web.yml");
    let config = format!("web: {{ config_file: {} }}\n{}", web.display(), cgroups.config());
    let exporter = Exporter::start(&binary, &config);
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (authority.file(), file("client.crt"), file("client.key"));
    let password = write(folder.path(), "password", "swordfish");
    let url = exporter.url("");
    let look = |words: &[&str]| {
        let mut command = top(&["--url", &url, "--interval", "500ms", "--once"]).expect("a binary");
        outcome(&command.args(words).output().expect("it starts"))
    };
    let (ca, password) = (ca.to_string_lossy(), password.to_string_lossy());
    let certificate = ["--ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
    let login = ["--username", "prometheus", "--password-file", &password];
    let (success, stdout, stderr) = look(&[&certificate[..], &login].concat());
    assert!(success, "{stderr}");
    assert!(stdout.contains(&format!("/{BUSY}")), "{stdout}");

    let (success, _, stderr) = look(&certificate);
    assert!(!success && stderr.contains("--password-file"), "{stderr}");
    let (success, _, stderr) = look(&[&["--ca-file", &ca][..], &login].concat());
    assert!(!success && stderr.contains(&url), "{stderr}");
    let (success, _, stderr) = look(&[&certificate[2..], &login].concat());
    assert!(!success && stderr.contains("certificate"), "{stderr}");
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let check = |url: &str, words: &[&str], expected: &[&str]| {
        let mut command = top(&["--once", "--url", url]).expect("there is a binary");
        let (success, _, stderr) = outcome(&command.args(words).output().expect("it starts"));
        assert!(!success);
        for part in expected {
            assert!(stderr.contains(part), "{part:?} is missing: {stderr}");
        }
    };
    if podmeter().is_none() {
        return;
    }
    check("127.0.0.1:1", &[], &["nobody answers at http://127.0.0.1:1", "`podmeter run`", "--url"]);
    let answers = |reply: Reply| {
        let server = serve("text/plain; version=0.0.4", move |_| reply.clone());
        format!("http://{server}")
    };
    let refuses = answers(Reply::Status("401 Unauthorized"));
    check(&refuses, &[], &[&refuses, "--token-file", "--password-file", "--cert-file"]);
    let refuses = answers(Reply::Status("403 Forbidden"));
    check(&refuses, &[], &[&refuses, "/metrics"]);
    let other = answers(Reply::Page(b"node_load1 1\n".to_vec()));
    check(&other, &[], &["is no Podmeter", "--url"]);
    check(&answers(Reply::NotFound), &[], &["is no Podmeter"]);
    check(&other, &["--token-file", "/nonexistent"], &["/nonexistent"]);
    let broken = answers(Reply::Page(b"podmeter_build_info 1\npodmeter_x{\n".to_vec()));
    check(&broken, &[], &["cannot be read", "line 2"]);
}

/// A terminal with a program in it: `script` makes one, and `stty` tells how it was left.
struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    fn start(address: &str) -> Self {
        let binary = podmeter().expect("there is a binary");
        let inner = format!(
            "stty rows 20 cols 160; {} top --url {address} --interval 500ms; echo \"code=$?\"; stty -a",
            binary.display()
        );
        // Whatever hangs in it ends some time.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "120", "script"]);
        command.args(["--quiet", "--command", &inner, "/dev/null"]);
        command.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped());
        Self { child: command.spawn().expect("script starts"), seen: String::new() }
    }

    /// Reads until the screen has had this text on it.
    fn wait_for(&mut self, text: &str) {
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let n_bytes = stdout.read(&mut buffer).expect("it can be read");
            assert!(n_bytes > 0, "{text:?} did not come: {}", self.seen);
            let read = buffer.get(..n_bytes).expect("no more than there is room for");
            self.seen.push_str(&String::from_utf8_lossy(read));
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// The process id of the program in it.
    fn program(&self) -> Pid {
        let mut found = None;
        wait_for("the program runs", || {
            found = descendant(self.child.id());
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Everything until the end; the program said that it ended well, and the terminal is as it was.
    fn assert_left_well(mut self) {
        self.wait_for("code=0");
        self.wait_for("-cmspar");
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).expect("it can be read");
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        assert!(self.child.wait().expect("script ends").success());
        let (_, after) = self.seen.rsplit_once(LEAVES_SCREEN).expect("it left its screen");
        let words: Vec<&str> =
            after.split_whitespace().map(|word| word.trim_end_matches(';')).collect();
        for mode in ["icanon", "echo", "isig", "opost"] {
            assert!(words.contains(&mode), "{mode} is off: {after}");
        }
    }
}

/// The process that is `podmeter` below another.
fn descendant(parent: u32) -> Option<Pid> {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().find_map(|id| {
        let id: u32 = id.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        if name.trim() == "podmeter" { Pid::from_raw(id.try_into().ok()?) } else { descendant(id) }
    })
}

#[test]
fn on_a_terminal_it_sorts_by_keys_and_leaves_it_as_it_was() {
    let Some(binary) = podmeter() else { return };
    let cgroups = FakeCgroups::make(&[(BUSY, 200)]);
    let exporter = Exporter::start(&binary, &cgroups.config());
    let mut terminal = Terminal::start(exporter.address());
    terminal.wait_for("/system.slice/busy.service");
    terminal.press("r");
    terminal.press("q");
    terminal.assert_left_well();

    let mut terminal = Terminal::start(exporter.address());
    terminal.wait_for("/system.slice/busy.service");
    kill_process(terminal.program(), Signal::TERM).expect("it runs");
    terminal.assert_left_well();
}

/// An endpoint that goes while it is shown is named on the screen, and its rows stay.
#[test]
fn an_endpoint_that_goes_is_named_on_the_screen() {
    let Some(binary) = podmeter() else { return };
    let cgroups = FakeCgroups::make(&[(BUSY, 200)]);
    let exporter = Exporter::start(&binary, &cgroups.config());
    let mut terminal = Terminal::start(exporter.address());
    terminal.wait_for("/system.slice/busy.service");
    let (status, _) = exporter.terminate();
    assert!(status.success());
    terminal.wait_for("nobody answers");
    terminal.press("q");
    terminal.assert_left_well();
}
