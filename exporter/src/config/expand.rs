//! `${NAME}` in values of the configuration file. Pure.

/// Why a value could not be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The variable is not set.
    #[error("the environment variable {name} is not set (`$${{` stands for a literal `${{`)")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// A `${` without its `}`.
    #[error("a `${{` has no closing brace")]
    NotClosed,
}

/// Replaces each `${NAME}`; a lone `$` stays as it is, and `$${` gives `${`.
pub(super) fn expand(
    value: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let (name, after) = after.split_once('}').ok_or(ExpandError::NotClosed)?;
        let found = variable(name).ok_or_else(|| ExpandError::NotSet { name: name.into() })?;
        expanded.push_str(&found);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::{ExpandError, expand};

    #[test]
    fn replaces_variables_and_nothing_else() {
        let variable = |name: &str| (name == "IP").then(|| "10.0.0.7".to_owned());
        let check = |value, expected: Result<&str, ExpandError>| {
            assert_eq!(expand(value, &variable), expected.map(str::to_owned), "{value}");
        };
        check("plain", Ok("plain"));
        check("${IP}:9643", Ok("10.0.0.7:9643"));
        check("a ${IP} b ${IP}", Ok("a 10.0.0.7 b 10.0.0.7"));
        check("$1 $IP {}", Ok("$1 $IP {}"));
        check("$${IP}", Ok("${IP}"));
        check("${NO}", Err(ExpandError::NotSet { name: "NO".into() }));
        check("${IP", Err(ExpandError::NotClosed));
    }
}
