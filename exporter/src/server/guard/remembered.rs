//! What was found out about secrets, kept for a while under keyed digests of them, never under the secrets.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// So many bytes has a digest, and the key that nobody outside of this process has.
const N_BYTES: usize = 32;

/// A secret's place among those that are remembered.
pub(super) type Digest = [u8; N_BYTES];

/// There is no randomness to make a key of.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random numbers")]
pub struct NoRandomness;

/// Values by secret, with an end each, and a bound.
pub(super) struct Remembered<V> {
    key: hmac::Key,
    n_most: usize,
    entries: Mutex<HashMap<Digest, (V, Instant)>>,
}

impl<V: Clone> Remembered<V> {
    pub(super) fn new(n_most: usize) -> Result<Self, NoRandomness> {
        let mut key = [0; N_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_unspecified| NoRandomness)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { key, n_most, entries: Mutex::default() })
    }

    /// The digest of a secret in parts; where one part ends and the next begins is in it.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; N_BYTES];
        // Both have 32 bytes.
        for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        digest
    }

    pub(super) fn get(&self, digest: &Digest, now: Instant) -> Option<V> {
        let entries = self.entries();
        entries.get(digest).filter(|(_, end)| now < *end).map(|(value, _)| value.clone())
    }

    /// Keeps the value until `end`; for its sake the one goes that would end first.
    pub(super) fn put(&self, digest: Digest, value: V, end: Instant, now: Instant) {
        let mut entries = self.entries();
        entries.retain(|_, (_, end)| now < *end);
        if entries.len() >= self.n_most && !entries.contains_key(&digest) {
            let first = entries.iter().min_by_key(|(_, (_, end))| *end).map(|(digest, _)| *digest);
            if let Some(first) = first {
                entries.remove(&first);
            }
        }
        entries.insert(digest, (value, end));
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.entries().remove(digest);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Digest, (V, Instant)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Remembered<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remembered").field("n_most", &self.n_most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Remembered;

    #[test]
    fn a_value_is_kept_until_its_end() {
        let remembered = Remembered::new(2).unwrap();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let digest = |text: &str| remembered.digest(&[text.as_bytes()]);
        remembered.put(digest("a"), 1, now + second, now);
        assert_eq!(remembered.get(&digest("a"), now), Some(1));
        assert_eq!(remembered.get(&digest("b"), now), None);
        assert_eq!(remembered.get(&digest("a"), now + second), None);
        remembered.put(digest("a"), 2, now + 9 * second, now);
        remembered.put(digest("b"), 3, now + 2 * second, now);
        // The one that ends first makes room.
        remembered.put(digest("c"), 4, now + 3 * second, now);
        let kept = ["a", "b", "c"].map(|text| remembered.get(&digest(text), now));
        assert_eq!(kept, [Some(2), None, Some(4)]);
        remembered.forget(&digest("a"));
        assert_eq!(remembered.get(&digest("a"), now), None);
    }

    #[test]
    fn digests_tell_parts_apart_and_processes_too() {
        let remembered = Remembered::<()>::new(1).unwrap();
        assert_ne!(remembered.digest(&[b"ab", b"c"]), remembered.digest(&[b"a", b"bc"]));
        let other = Remembered::<()>::new(1).unwrap();
        assert_ne!(remembered.digest(&[b"a"]), other.digest(&[b"a"]));
    }
}
