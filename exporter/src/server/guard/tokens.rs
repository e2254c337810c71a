//! Bearer tokens: what the Kubernetes API said of each, for a while, and few questions at once.
//!
//! While the API server cannot be asked, a token that was good a short while ago is taken on; others are not.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Refusal,
    gate::{Full, Gate, Width},
    remembered::{NoRandomness, Remembered},
};
use crate::server::app::TokenVerdict;

/// Two requests to the API server each; four at once keep it from being flooded by way of a node.
const WIDTH: Width = Width { n_places: 4, n_in_line: 32, n_of_address: 8 };

/// How long a place rests after a token that is not good: sixteen guesses a second at most.
const REST: Duration = Duration::from_millis(250);

/// Good tokens that are remembered; each scraper has one, and a new one every hour.
const N_GOOD: usize = 64;
/// Others that are remembered: a scraper without the right comes again and again.
const N_BAD: usize = 256;

/// How long answers hold.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// A good token is taken unasked.
    good: Duration,
    /// A good token is taken from its last good answer on while the API server cannot be asked.
    good_without_answer: Duration,
    /// The API server is not asked about a good token again after it gave no answer.
    retry: Duration,
    /// Another token is refused unasked.
    bad: Duration,
}

/// As kube-rbac-proxy has them by default, but for the second, which it has not: a scrape is wanted most when the API
/// server is away.
const TIMES: Times = Times {
    good: Duration::from_mins(2),
    good_without_answer: Duration::from_mins(15),
    retry: Duration::from_secs(30),
    bad: Duration::from_secs(30),
};

/// What is known of tokens, and how many are asked for.
#[derive(Debug)]
pub(super) struct Tokens {
    gate: Gate,
    times: Times,
    good: Remembered<Good>,
    bad: Remembered<Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Good {
    ask_again: Instant,
    end: Instant,
}

impl Tokens {
    pub(super) fn new() -> Result<Self, NoRandomness> {
        Self::with(TIMES)
    }

    fn with(times: Times) -> Result<Self, NoRandomness> {
        Ok(Self {
            gate: Gate::new(WIDTH),
            times,
            good: Remembered::new(N_GOOD)?,
            bad: Remembered::new(N_BAD)?,
        })
    }

    /// Whether the owner of the token may read the page; `review` asks, if that is not known.
    pub(super) async fn check(
        &self,
        token: &str,
        address: IpAddr,
        review: impl Future<Output = TokenVerdict>,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        let good_digest = self.good.digest(&[token.as_bytes()]);
        let known = self.good.get(&good_digest, now);
        if known.is_some_and(|good| now < good.ask_again) {
            return Ok(());
        }
        let bad_digest = self.bad.digest(&[token.as_bytes()]);
        if let Some(refusal) = self.bad.get(&bad_digest, now) {
            return Err(refusal);
        }
        let entered = match self.gate.enter(address).await {
            Ok(entered) => entered,
            // Those who guess do not keep out who was let in a short while ago.
            Err(Full) => return known.map(|_good| ()).ok_or(Refusal::Busy),
        };
        let verdict = review.await;
        let now = Instant::now();
        let refusal = match verdict {
            TokenVerdict::Allowed => {
                let end = now + self.times.good_without_answer;
                self.good.put(
                    good_digest,
                    Good { ask_again: now + self.times.good, end },
                    end,
                    now,
                );
                return Ok(());
            }
            TokenVerdict::Unavailable => {
                let Some(good) = known.filter(|good| now < good.end) else {
                    entered.rest(REST);
                    return Err(Refusal::Unavailable);
                };
                let asked = Good { ask_again: now + self.times.retry, ..good };
                self.good.put(good_digest, asked, good.end, now);
                return Ok(());
            }
            TokenVerdict::Unknown => Refusal::UnknownToken,
            TokenVerdict::Forbidden { user } => Refusal::Forbidden { user },
        };
        self.good.forget(&good_digest);
        self.bad.put(bad_digest, refusal.clone(), now + self.times.bad, now);
        entered.rest(REST);
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    use super::{TIMES, Times, Tokens};
    use crate::server::{app::TokenVerdict, guard::Refusal};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const NOW: Duration = Duration::ZERO;

    /// Asks in this order, and expects these answers.
    async fn check(times: Times, steps: &[(TokenVerdict, Result<(), Refusal>)]) {
        let tokens = Tokens::with(times).unwrap();
        for (at, (verdict, expected)) in steps.iter().enumerate() {
            let got = tokens.check("t", HERE, async { verdict.clone() }).await;
            assert_eq!(got, *expected, "step {at} of {times:?}");
        }
    }

    #[tokio::test]
    async fn a_good_token_outlives_the_api_for_a_while_and_no_longer() {
        use TokenVerdict::{Allowed, Unavailable, Unknown};

        let unknown = || Err(Refusal::UnknownToken);
        // An answer holds for a while: nobody is asked again.
        check(TIMES, &[(Allowed, Ok(())), (Unknown, Ok(()))]).await;
        check(TIMES, &[(Unknown, unknown()), (Allowed, unknown())]).await;
        let asked_again = Times { good: NOW, ..TIMES };
        // No answer is no refusal of who was let in, and the next question comes later.
        let steps = [(Allowed, Ok(())), (Unavailable, Ok(())), (Unknown, Ok(()))];
        check(asked_again, &steps).await;
        // A refusal counts at once, even if the API is away afterwards.
        let asked_always = Times { good: NOW, retry: NOW, bad: NOW, ..TIMES };
        check(
            asked_always,
            &[
                (Allowed, Ok(())),
                (Unavailable, Ok(())),
                (Unknown, unknown()),
                (Unavailable, Err(Refusal::Unavailable)),
                (Allowed, Ok(())),
            ],
        )
        .await;
        let no_grace = Times { good_without_answer: NOW, ..asked_always };
        check(no_grace, &[(Allowed, Ok(())), (Unavailable, Err(Refusal::Unavailable))]).await;
        // Who was never let in is not, and nothing is remembered of no answer.
        check(TIMES, &[(Unavailable, Err(Refusal::Unavailable)), (Allowed, Ok(()))]).await;
    }
}
