//! A relabelling rule: a regular expression in Go's syntax, a replacement, and a value that both meet.

use podmeter::labelling::relabel::{LabelSet, Rules, Verdict, rule::RuleConfig};

/// One line each: the expression, the replacement, the value.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (regex, replacement, value) = (next(), next(), next());
    let replace = RuleConfig {
        source_labels: Some(vec!["source".into()]),
        regex: Some(regex.into()),
        target_label: Some("target".into()),
        replacement: Some(replacement.into()),
        ..RuleConfig::default()
    };
    let keep = RuleConfig {
        source_labels: Some(vec!["source".into()]),
        regex: Some(regex.into()),
        action: Some("keep".into()),
        ..RuleConfig::default()
    };
    let rules = |config: &RuleConfig| Rules::new(std::slice::from_ref(config));
    let (Ok(replace), Ok(keep)) = (rules(&replace), rules(&keep)) else { return };
    let pairs = [("__name__", "name"), ("source", value)];
    let mut labels = LabelSet::new(pairs);
    let is_kept = keep.apply(&mut labels) == Verdict::Kept;
    assert_eq!(replace.apply(&mut labels), Verdict::Kept, "replacing drops nothing");
    let target = labels.get("target");
    assert!(is_kept || target.is_empty(), "{regex:?} does not match {value:?}, gave {target:?}");
    if !replacement.is_empty() && !replacement.contains('$') && is_kept {
        assert_eq!(target, replacement);
    }
    let is_literal = regex.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(!is_literal || is_kept == (regex == value), "{regex:?} and {value:?}: {is_kept}");
}
