//! A bcrypt hash of `basic_auth_users`. Pure.

use std::fmt;

use bcrypt::HashParts;

/// What a cost may be at most: at 16 one check keeps a core busy for several seconds.
const MAX_COST: u32 = 16;

/// A password's hash, which is one that can be checked; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Why a text is no hash; without the text, which may be the password itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It is something else.
    #[error(
        "it is no bcrypt hash, which begins with $2a$, $2b$ or $2y$: make one by `htpasswd -nBC 10 \"\" | tr -d ':\\n'`"
    )]
    NoHash,
    /// It takes too long to check.
    #[error(
        "it has a cost of {0}, which takes too long to check: make one of at most {MAX_COST}, such as 10"
    )]
    TooDear(u32),
}

impl PasswordHash {
    /// Checks the form; the cost may be from 4 to 16.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let parts: HashParts = text.parse().map_err(|_bad| HashError::NoHash)?;
        // bcrypt itself refuses a cost below 4, at each check.
        match parts.get_cost() {
            ..4 => Err(HashError::NoHash),
            4..=MAX_COST => Ok(Self(text.to_owned())),
            cost => Err(HashError::TooDear(cost)),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{HashError, PasswordHash};

    #[test]
    fn a_hash_of_htpasswd_is_one_and_other_texts_are_not() {
        let rest = "mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze";
        for prefix in ["$2y$10$", "$2a$10$", "$2b$04$", "$2y$16$"] {
            let hash = PasswordHash::parse(&format!("{prefix}{rest}")).unwrap();
            assert!(!format!("{hash:?}").contains("lAisC"));
        }
        let check = |text: &str, expected| assert_eq!(PasswordHash::parse(text), Err(expected));
        check(&format!("$2y$17${rest}"), HashError::TooDear(17));
        check(&format!("$2y$03${rest}"), HashError::NoHash);
        check(&format!("$2y$10${}", rest.replace("mDwo", "Dwo")), HashError::NoHash);
        check("secret", HashError::NoHash);
        check("$1$abc$def", HashError::NoHash);
        check("", HashError::NoHash);
    }
}
