//! What the relays talk to: a kubelet's cadvisor page, the API server with its pods, and a remote write receiver that
//! swallows. One thread each connection; they end with this process.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use super::cadvisor::{FullPage, Pod};
use crate::bench::measured;

/// Answers one request; the request's body is read already.
type Handler = dyn Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync;

/// The kubelet: it refuses until it is opened, and counts what it gave.
#[derive(Debug)]
pub(in crate::bench) struct Target {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_open: AtomicBool,
    n_refused: AtomicUsize,
    n_served: AtomicUsize,
    page: Mutex<Vec<u8>>,
    /// The page as a kubelet gives it to those who take gzip.
    packed: Option<Packed>,
}

/// The page with some scrapes' values, each gzipped: this machine would not do it as fast as it is asked.
pub(in crate::bench) type Packed = Arc<[Vec<u8>]>;

/// How many of them there are.
const N_PACKED: usize = 3;

/// Gzips the page as a kubelet does, whose level is the usual one.
pub(in crate::bench) fn packed(page: &FullPage) -> Result<Packed> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (0..N_PACKED)
        .map(|scrape| {
            let mut bytes = Vec::new();
            page.write(scrape, now.as_millis(), &mut bytes);
            let path = measured::dir()?.join("cadvisor.txt");
            fs::write(&path, bytes).context("failed to write the page")?;
            let output = Command::new("gzip").args(["-6", "-c"]).arg(&path).output();
            let output = output.context("failed to start gzip")?;
            if !output.status.success() {
                bail!("gzip failed: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(output.stdout)
        })
        .collect()
}

impl Target {
    /// Serves the page under every path.
    pub(in crate::bench) fn start(page: Arc<FullPage>, packed: Option<Packed>) -> Result<Self> {
        let state = Arc::new(State { packed, ..State::default() });
        let served = Arc::clone(&state);
        let address = serve(Box::new(move |_path, stream| served.answer(&page, stream)))?;
        Ok(Self { address, state })
    }

    pub(in crate::bench) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it gives the page.
    pub(in crate::bench) fn open(&self) {
        self.state.is_open.store(true, Ordering::SeqCst);
    }

    /// How often it refused, as yet.
    pub(in crate::bench) fn n_refused(&self) -> usize {
        self.state.n_refused.load(Ordering::SeqCst)
    }

    /// How often it gave the page.
    pub(in crate::bench) fn n_served(&self) -> usize {
        self.state.n_served.load(Ordering::SeqCst)
    }

    /// Waits until it has given the page once more than it had.
    pub(in crate::bench) fn wait_for_next(&self, n_served: usize, time: Duration) -> Result<()> {
        wait_until("the page is asked for", time, || self.n_served() > n_served)
    }
}

impl State {
    fn answer(&self, page: &FullPage, stream: &mut TcpStream) -> io::Result<()> {
        if !self.is_open.load(Ordering::SeqCst) {
            self.n_refused.fetch_add(1, Ordering::SeqCst);
            return stream.write_all(b"HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n");
        }
        let n_served = self.n_served.load(Ordering::SeqCst);
        let packed = self.packed.as_ref().and_then(|packed| packed.get(n_served % N_PACKED));
        if let Some(packed) = packed {
            send(stream, "Content-Encoding: gzip\r\n", packed)?;
        } else {
            let mut bytes = self.page.lock().unwrap_or_else(PoisonError::into_inner);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            page.write(n_served, now.as_millis(), &mut bytes);
            send(stream, "", &bytes)?;
        }
        self.n_served.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn send(stream: &mut TcpStream, headers: &str, bytes: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{headers}Content-Length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(bytes)
}

/// Waits for a condition, or fails.
pub(in crate::bench) fn wait_until(
    what: &str,
    time: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + time;
    while !is_so() {
        if Instant::now() > deadline {
            bail!("waited {} s in vain: {what}", time.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// An API server that knows the pods, each with the label `region`, and that nothing ever changes.
pub(in crate::bench) fn api_server(pods: &[Pod]) -> Result<SocketAddr> {
    let mut events = String::new();
    for Pod { namespace, name, uid } in pods {
        writeln!(
            events,
            r#"{{"type":"ADDED","object":{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"1","labels":{{"region":"beijing"}}}},"spec":{{"nodeName":"bench","containers":[{{"name":"main"}}]}},"status":{{"phase":"Running"}}}}}}"#
        )?;
    }
    events.push_str(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2","annotations":{"k8s.io/initial-events-end":"true"}}}}"#);
    events.push('\n');
    serve(Box::new(move |path, stream| {
        if !path.contains("watch=true") {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
        )?;
        if path.contains("sendInitialEvents=true") {
            stream.write_all(events.as_bytes())?;
        }
        // It lasts as long as the other side wants it.
        stream.read(&mut [0]).map(drop)
    }))
}

/// A receiver of remote writes that looks at nothing.
pub(in crate::bench) fn sink() -> Result<SocketAddr> {
    serve(Box::new(|_path, stream| stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")))
}

fn serve(handler: Box<Handler>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    let address = listener.local_addr().context("a bound port has a number")?;
    let handler: Arc<Handler> = handler.into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            // A connection that breaks is the other side's matter.
            thread::spawn(move || drop(connection(&stream, handler.as_ref())));
        }
    });
    Ok(address)
}

/// Answers one request after the other.
fn connection(stream: &TcpStream, handler: &Handler) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    while let Some(head) = head(&mut reader)? {
        let mut body = reader.by_ref().take(head.n_body_bytes);
        io::copy(&mut body, &mut io::sink())?;
        handler(&head.path, &mut writer)?;
    }
    Ok(())
}

struct Head {
    path: String,
    n_body_bytes: u64,
}

/// The next request's, or nothing at the end of the connection.
fn head(reader: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(None) };
    let mut n_body_bytes = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                n_body_bytes = value.trim().parse().unwrap_or(0);
            }
            Some(_) => {}
            None => return Ok(Some(Head { path, n_body_bytes })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn a_head_has_a_path_and_says_how_long_its_body_is() {
        let mut request =
            &b"POST /write?a=b HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabc"[..];
        let found = head(&mut request).unwrap().unwrap();
        assert_eq!(
            (found.path.as_str(), found.n_body_bytes, request),
            ("/write?a=b", 3, &b"abc"[..])
        );
        assert!(head(&mut &b""[..]).unwrap().is_none());
        assert!(head(&mut &b"GET / HTTP/1.1\r\nHost: x\r\n"[..]).unwrap().is_none());
    }
}
