//! Where an error says that something stands.

/// The line of `file:line:column` at the beginning of a message, if there is one: it is in the text, or just behind it.
pub(crate) fn check_place(message: &str, file: &str, text: &str) -> Option<usize> {
    let rest = message.strip_prefix(file);
    let rest = rest.unwrap_or_else(|| panic!("{message:?} does not begin with the file"));
    let mut numbers = rest.strip_prefix(':')?.splitn(3, ':').map(str::parse::<usize>);
    let (Some(Ok(line)), Some(Ok(column))) = (numbers.next(), numbers.next()) else { return None };
    // Of a text that ends too early, the error is where the next line would be. YAML knows more ends of lines than Rust.
    let n_lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    assert!((1..=n_lines).contains(&line) && column >= 1, "{message:?} of {}", text.escape_debug());
    Some(line)
}
