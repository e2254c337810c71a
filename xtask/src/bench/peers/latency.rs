//! How long a page takes when so many scrapers ask for it in the same moment.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How many scrapers ask at once.
pub(super) const SCRAPERS: [usize; 3] = [1, 5, 20];

/// How often all of them do.
const N_WAVES: usize = 5;
/// Between two waves, so that none waits for what the one before has left to do.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that a page may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of all scrapes of one number of scrapers.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    /// Of each page that came whole.
    pub(super) times: Vec<Duration>,
    /// Scrapes that were turned away with 503.
    pub(super) n_refused: usize,
}

impl Latency {
    /// Takes another round's scrapes in.
    pub(super) fn add(&mut self, other: &Self) {
        self.times.extend(&other.times);
        self.n_refused += other.n_refused;
    }

    /// The middle one, and the longest.
    pub(super) fn middle_and_longest(&self) -> Option<(Duration, Duration)> {
        let mut times = self.times.clone();
        times.sort();
        Some((*times.get(times.len() / 2)?, *times.last()?))
    }
}

/// Asks with each number of scrapers.
pub(super) fn measure(address: SocketAddr) -> Result<[Latency; 3]> {
    let [one, few, many] = SCRAPERS.map(|n_scrapers| waves(address, n_scrapers));
    Ok([one?, few?, many?])
}

fn waves(address: SocketAddr, n_scrapers: usize) -> Result<Latency> {
    let mut latency = Latency::default();
    for _ in 0..N_WAVES {
        let barrier = Barrier::new(n_scrapers);
        let scrape = || {
            let mut buffer = vec![0; 1 << 18];
            barrier.wait();
            ask(address, &mut buffer)
        };
        let outcomes: Vec<Result<Option<Duration>>> = thread::scope(|scope| {
            let scrapers: Vec<_> = (0..n_scrapers).map(|_| scope.spawn(scrape)).collect();
            scrapers.into_iter().filter_map(|scraper| scraper.join().ok()).collect()
        });
        for outcome in outcomes {
            match outcome? {
                Some(time) => latency.times.push(time),
                None => latency.n_refused += 1,
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(latency)
}

/// Gets the page and throws it away; none if there was no place for one more scrape.
fn ask(address: SocketAddr, buffer: &mut [u8]) -> Result<Option<Duration>> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).context("failed to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain\r\nAccept-Encoding: identity\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).context("failed to send the request")?;
    let mut n_read = stream.read(buffer).context("failed to read the answer")?;
    let status = buffer.get(9..12).map(<[u8]>::to_vec).unwrap_or_default();
    while n_read > 0 {
        n_read = stream.read(buffer).context("failed to read the answer")?;
    }
    match status.as_slice() {
        b"200" => Ok(Some(began.elapsed())),
        b"503" => Ok(None),
        other => bail!("the answer is {}", other.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latency;

    #[test]
    fn rounds_are_looked_at_together() {
        let of = |times: &[u64], n_refused| Latency {
            times: times.iter().map(|milliseconds| Duration::from_millis(*milliseconds)).collect(),
            n_refused,
        };
        let mut all = of(&[9, 1], 2);
        all.add(&of(&[3], 1));
        let middle_and_longest = (Duration::from_millis(3), Duration::from_millis(9));
        assert_eq!((all.middle_and_longest(), all.n_refused), (Some(middle_and_longest), 3));
        assert_eq!(Latency::default().middle_and_longest(), None);
    }
}
