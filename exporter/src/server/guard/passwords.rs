//! `basic_auth_users`: user and password, checked by bcrypt once and then remembered for an hour.
//!
//! bcrypt is slow on purpose. So it runs on threads that may block, one at a time, and for a user that does not exist
//! as for one that does: neither the answer nor its time tells which users there are.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use tokio::task;

use super::{
    gate::{Full, Gate, Width},
    remembered::{NoRandomness, Remembered},
};
use crate::config::web::PasswordHash;

/// One check keeps one core busy for some 0.1 s at cost 10; a scraper waits for no more than seven others.
const WIDTH: Width = Width { n_places: 1, n_in_line: 8, n_of_address: 2 };

/// Passwords that are remembered; each user has one, and longer ones of which bcrypt sees the first 72 bytes.
const N_REMEMBERED: usize = 100;

/// How long a password is taken without asking bcrypt again.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The users and their passwords' hashes.
pub(in crate::server) type Users = BTreeMap<String, PasswordHash>;

/// What is known of passwords, and how many are looked at.
#[derive(Debug)]
pub(super) struct Passwords {
    gate: Gate,
    good: Arc<Remembered<()>>,
}

/// User and password as they came.
pub(in crate::server) struct Login {
    pub(in crate::server) name: Vec<u8>,
    pub(in crate::server) password: Vec<u8>,
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad,
    /// Too many are checked already.
    Busy,
}

impl Login {
    /// What follows `Basic` in the header.
    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.trim()).ok()?;
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let (name, password) = bytes.split_at(colon);
        Some(Self { name: name.to_vec(), password: password.get(1..)?.to_vec() })
    }
}

impl Passwords {
    pub(super) fn new() -> Result<Self, NoRandomness> {
        let good = Arc::new(Remembered::new(N_REMEMBERED)?);
        Ok(Self { gate: Gate::new(WIDTH), good })
    }

    /// Whether the login is of one of the users.
    pub(super) async fn check(&self, users: &Users, login: Login, address: IpAddr) -> Verdict {
        let Some((hash, exists)) = self.hash(users, &login.name) else {
            return Verdict::Bad;
        };
        let digest = self.good.digest(&[&login.name, hash.as_str().as_bytes(), &login.password]);
        if exists && self.good.get(&digest, Instant::now()).is_some() {
            return Verdict::Good;
        }
        let entered = match self.gate.enter(address).await {
            Ok(entered) => entered,
            Err(Full) => return Verdict::Busy,
        };
        let (good, hash) = (Arc::clone(&self.good), hash.clone());
        // It goes on though the client leaves: the next time the answer is known.
        let checked = task::spawn_blocking(move || {
            let began = Instant::now();
            let is_good = bcrypt::verify(&login.password, hash.as_str()).unwrap_or(false) && exists;
            let now = Instant::now();
            if is_good {
                good.put(digest, (), now + REMEMBERED_FOR, now);
            } else {
                entered.rest(now.duration_since(began));
            }
            is_good
        });
        match checked.await {
            Ok(true) => Verdict::Good,
            Ok(false) => Verdict::Bad,
            Err(error) => {
                tracing::error!(%error, "checking a password ended early, which is a bug");
                Verdict::Bad
            }
        }
    }

    /// The user's hash, or for a user that does not exist one of the others', always the same one: its cost is then as
    /// likely as theirs.
    fn hash<'a>(&self, users: &'a Users, name: &[u8]) -> Option<(&'a PasswordHash, bool)> {
        if let Some(hash) = str::from_utf8(name).ok().and_then(|name| users.get(name)) {
            return Some((hash, true));
        }
        let [first, second, ..] = self.good.digest(&[name]);
        let at = usize::from(u16::from_be_bytes([first, second])).checked_rem(users.len())?;
        users.values().nth(at).map(|hash| (hash, false))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{IpAddr, Ipv4Addr},
    };

    use super::{Login, Passwords, Users, Verdict};
    use crate::config::web::PasswordHash;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// The lowest cost that there is.
    fn users() -> Users {
        let hash =
            |password: &str| PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap();
        [("alice", "secret"), ("bob", "pass:word")]
            .into_iter()
            .map(|(name, password)| (name.to_owned(), hash(password)))
            .collect()
    }

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.into(), password: password.into() }
    }

    #[tokio::test]
    async fn who_has_the_password_is_let_in_and_remembered() {
        let (users, passwords) = (users(), Passwords::new().unwrap());
        let long = "x".repeat(1000);
        for (name, password, expected) in [
            ("alice", "secret", Verdict::Good),
            ("alice", "secret", Verdict::Good),
            ("bob", "pass:word", Verdict::Good),
            ("alice", "pass:word", Verdict::Bad),
            ("alice", "", Verdict::Bad),
            ("alice", &long, Verdict::Bad),
            ("", "secret", Verdict::Bad),
            ("carol", "secret", Verdict::Bad),
            ("carol", "pass:word", Verdict::Bad),
        ] {
            let verdict = passwords.check(&users, login(name, password), HERE).await;
            assert_eq!(verdict, expected, "{name}:{password}");
        }
        let none = passwords.check(&Users::new(), login("alice", "secret"), HERE).await;
        assert_eq!(none, Verdict::Bad);
    }

    #[tokio::test]
    async fn a_remembered_password_ends_with_its_hash() {
        let (mut users, passwords) = (users(), Passwords::new().unwrap());
        let alice = || login("alice", "secret");
        assert_eq!(passwords.check(&users, alice(), HERE).await, Verdict::Good);
        let other = users["bob"].clone();
        users.insert("alice".into(), other);
        assert_eq!(passwords.check(&users, alice(), HERE).await, Verdict::Bad);
    }

    #[tokio::test]
    async fn a_remembered_password_does_not_wait_for_those_who_guess() {
        let (users, passwords) = (users(), Passwords::new().unwrap());
        assert_eq!(passwords.check(&users, login("alice", "secret"), HERE).await, Verdict::Good);
        let mut held = Vec::new();
        for host in 1..=super::WIDTH.n_in_line {
            let address = Ipv4Addr::new(10, 0, 0, u8::try_from(host).unwrap()).into();
            held.push(Box::pin(passwords.gate.enter(address)));
        }
        let mut entered = Vec::new();
        for guess in &mut held {
            entered.push(tokio::time::timeout(std::time::Duration::from_millis(1), guess).await);
        }
        assert_eq!(passwords.check(&users, login("alice", "guess"), HERE).await, Verdict::Busy);
        assert_eq!(passwords.check(&users, login("alice", "secret"), HERE).await, Verdict::Good);
    }

    #[test]
    fn who_does_not_exist_is_checked_against_a_hash_that_does_always_the_same() {
        let (users, passwords) = (users(), Passwords::new().unwrap());
        let hash_of = |name: &str| {
            let (hash, exists) = passwords.hash(&users, name.as_bytes()).unwrap();
            (hash.as_str().to_owned(), exists)
        };
        let mut seen = BTreeSet::new();
        for number in 0..64 {
            let name = format!("user-{number}");
            assert_eq!(hash_of(&name), hash_of(&name));
            assert!(!hash_of(&name).1);
            seen.insert(hash_of(&name).0);
        }
        // 64 names fall on one of two with a chance of 2^-63.
        assert_eq!(seen.len(), 2);
        assert!(hash_of("alice").1);
    }

    #[test]
    fn headers_are_read_as_rfc_7617_has_them() {
        let parse = |text: &str| {
            let login = Login::parse(text)?;
            Some((String::from_utf8(login.name).ok()?, String::from_utf8(login.password).ok()?))
        };
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(parse("YWxpY2U6c2VjcmV0"), pair("alice", "secret"));
        assert_eq!(parse(" Ym9iOnBhc3M6d29yZA== "), pair("bob", "pass:word"));
        assert_eq!(parse("Ym9iOnBhc3M6d29yZA"), pair("bob", "pass:word"));
        assert_eq!(parse("Og=="), pair("", ""));
        for bad in ["", "YWxpY2U=", "!", "alice:secret"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
