//! docs/troubleshooting.md, where people look for the message that they see.

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// Checks that what Podmeter said has a line with this text, and that the page shows the line from there on, as it is,
/// with the advice that `podmeter check` writes below it.
pub fn assert_explained(said: &str, text: &str) {
    let (_, explained) = PAGE.split_once("\n## Messages\n").expect("there is a chapter of them");
    let mut lines = said.lines().skip_while(|line| !line.contains(text));
    let line = lines.next().unwrap_or_else(|| panic!("nobody said `{text}`:\n{said}"));
    let (_, rest) = line.split_once(text).expect("the line has it");
    let message = format!("{text}{rest}");
    assert!(explained.contains(&message), "docs/troubleshooting.md does not show\n{message}");
    if let Some(advice) = lines.next().filter(|line| line.trim_start().starts_with("-> ")) {
        let shown = format!("{message}\n{advice}");
        assert!(explained.contains(&shown), "docs/troubleshooting.md does not show\n{shown}");
    }
}
