//! A gate in front of a server: closed, the server is gone, and nobody listens on its port; open again, it is back there.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// The gate; it is open first.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    behind: SocketAddr,
    open: Option<Open>,
}

/// What there is while it is open.
#[derive(Debug)]
struct Open {
    is_over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// Opens one on a free port in front of a server.
    #[must_use]
    pub fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        Self { address, behind, open: Some(Open::start(listener, behind)) }
    }

    /// Where clients go.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the server be gone: connections end, and new ones are refused.
    pub fn close(&mut self) {
        let Some(Open { is_over, streams, accepting }) = self.open.take() else { return };
        is_over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address).expect("it wakes the one who accepts"));
        accepting.join().expect("the thread ends");
        for stream in &*streams.lock().unwrap_or_else(PoisonError::into_inner) {
            // The other side may have ended it before.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Lets it be back on the same port.
    pub fn open(&mut self) {
        assert!(self.open.is_none(), "it is open");
        let listener = TcpListener::bind(self.address).expect("the port is still free");
        self.open = Some(Open::start(listener, self.behind));
    }
}

impl Open {
    fn start(listener: TcpListener, behind: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (until, opened) = (Arc::clone(&is_over), Arc::clone(&streams));
        let accepting = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                pass(client, behind, &opened).expect("the server behind the gate listens");
            }
        });
        Self { is_over, streams, accepting }
    }
}

/// Carries bytes both ways, on threads that end with the connection.
fn pass(client: TcpStream, behind: SocketAddr, opened: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let server = TcpStream::connect(behind)?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || carry(from, to));
    }
    opened.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
    Ok(())
}

/// Whichever side ends, the other sees it.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n_bytes @ 1..) = from.read(&mut buffer) {
        if buffer.get(..n_bytes).is_none_or(|bytes| to.write_all(bytes).is_err()) {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
