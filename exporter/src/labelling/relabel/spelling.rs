//! A rule as the configuration file has it, for people. Pure.

use std::fmt;

use super::rule::RuleConfig;

/// On one line of YAML, with what was given.
impl fmt::Display for RuleConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &String| format!("'{}'", text.replace('\'', "''"));
        let plain = String::clone;
        let sources = self.source_labels.as_ref().map(|names| format!("[{}]", names.join(", ")));
        let parts = [
            ("source_labels", sources),
            ("separator", self.separator.as_ref().map(quoted)),
            ("regex", self.regex.as_ref().map(quoted)),
            ("modulus", self.modulus.map(|modulus| modulus.to_string())),
            ("target_label", self.target_label.as_ref().map(plain)),
            ("replacement", self.replacement.as_ref().map(quoted)),
            ("action", self.action.as_ref().map(plain)),
        ];
        let given = parts.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
        write!(formatter, "{{{}}}", given.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use crate::labelling::relabel::rule::RuleConfig;

    #[test]
    fn what_is_said_can_be_read_again() {
        for yaml in [
            "{}",
            "{source_labels: [a, b], separator: '@', regex: 'it''s: (.*)', target_label: c, replacement: '$1', action: replace}",
            "{source_labels: [a], modulus: 7, target_label: c, action: hashmod}",
        ] {
            let config: RuleConfig = serde_saphyr::from_str(yaml).unwrap();
            assert_eq!(config.to_string(), yaml);
        }
    }
}
