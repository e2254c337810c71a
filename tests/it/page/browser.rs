//! The page for people, as Chromium shows it: nothing of it is a script, whatever cgroups are called.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use podmeter_tests::{
    cgroup::wait_for, exporter::Exporter, fake_cgroups::FakeCgroups, http::get, skip::skipped,
    tools::podmeter,
};

/// A name that a page which forgets to escape it would run.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'<\u{2044}script>";

const POD: &str = "kubepods.slice/kubepods-pod2f1b7d0a_5c6e_4d5f_9a52_1c7d1f3e8a10.slice/cri-containerd-6f1d2c3b4a5968778695a4b3c2d1e0f06f1d2c3b4a5968778695a4b3c2d1e0f0.scope";

#[test]
fn names_are_text_and_no_script_runs() {
    let Some(binary) = podmeter() else { return };
    let chromium = std::env::var_os("PODMETER_CHROMIUM").map(PathBuf::from);
    let Some(chromium) = chromium else {
        return skipped("there is no Chromium: `cargo xtask setup` brings one where apt has it");
    };
    let cgroups =
        FakeCgroups::make(&[(HOSTILE, 120), (POD, 350), ("system.slice/cron.service", 0)]);
    let exporter = Exporter::start(&binary, &cgroups.config());
    let url = exporter.url("/");
    wait_for("two collections are shown", || {
        assert_eq!(get(&exporter.url("/metrics"), &[]).status, 200);
        get(&url, &[]).text().contains("<meter")
    });

    let browser = Browser { chromium, profile: tempfile::tempdir().expect("a temporary folder") };
    let (dom, log) = browser.run(&["--dump-dom", &url]);
    assert!(dom.contains("<title>Podmeter on "), "{dom}");
    assert!(dom.contains("&lt;img src=x"), "{dom}");
    assert!(!dom.contains("<img") && !dom.contains("<script"), "{dom}");
    assert!(dom.contains("pod 2f1b7d0a-5c6e-4d5f-9a52-1c7d1f3e8a10/6f1d2c3b4a596"), "{dom}");
    assert!(!log.contains("Content Security Policy"), "its own style is allowed: {log}");

    for (name, size) in [("wide", "1280,1600"), ("narrow", "400,2400")] {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("landing-{name}.png"));
        browser.screenshot(&url, size, &file);
        println!("report: screenshot | {name} | {}", file.display());
    }
}

struct Browser {
    chromium: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Its standard output and its log.
    fn run(&self, words: &[&str]) -> (String, String) {
        let mut command = Command::new(&self.chromium);
        // Root has no sandbox of Chromium's, and the page is our own.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.args(["--enable-logging=stderr", "--disable-dev-shm-usage"]);
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        let output = command.args(words).output().expect("Chromium starts");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {log}", output.status);
        (String::from_utf8(output.stdout).expect("UTF-8"), log)
    }

    fn screenshot(&self, url: &str, size: &str, file: &Path) {
        // One of an earlier run proves nothing.
        drop(fs::remove_file(file));
        let to_file = format!("--screenshot={}", file.display());
        let (_, log) = self.run(&[&to_file, &format!("--window-size={size}"), url]);
        let image = fs::read(file).unwrap_or_else(|error| panic!("{error}: {log}"));
        assert!(image.starts_with(b"\x89PNG"), "{log}");
    }
}
