//! The client against real sockets that do what a broken target does.

mod faults;
mod tls;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Client,
    config::{ClientConfig, Compression, TlsConfig},
    error::FetchError,
};
use crate::error_chain::one_line;

const PATIENT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const LIMIT: usize = 1000;

/// What a target does with each request.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Answers and keeps the connection.
    Answers(&'static [u8]),
    /// Answers and closes the connection.
    Closes(&'static [u8]),
    /// Answers as far as this goes, and then nothing more.
    Hangs(&'static [u8]),
    /// Answers and then sends a byte every few milliseconds, without end.
    Drips(&'static [u8]),
    /// Sends the head and then zeros without end, as fast as they are taken.
    Floods(&'static [u8]),
}

/// A target, and the heads of the requests that came, each with the number of its connection.
struct Target {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(usize, String)>,
}

impl Target {
    async fn start(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, sender) = (tls.clone(), sender.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, behaviour, connection, sender).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, behaviour, connection, sender).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    async fn plain(behaviour: Behaviour) -> Self {
        Self::start(behaviour, None).await
    }

    fn config(&self) -> ClientConfig {
        config(&format!("http://{}/metrics?a=b", self.address))
    }

    async fn request(&mut self) -> (usize, String) {
        self.requests.recv().await.unwrap()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    behaviour: Behaviour,
    connection: usize,
    requests: mpsc::UnboundedSender<(usize, String)>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_closed) => return,
            }
        }
        // The test may have ended.
        if requests.send((connection, String::from_utf8(head).unwrap())).is_err() {
            return;
        }
        // The client may hang up at any time.
        match answer(&mut stream, behaviour).await {
            Ok(()) if matches!(behaviour, Behaviour::Answers(_)) => {}
            Ok(()) | Err(_) => return,
        }
    }
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    behaviour: Behaviour,
) -> std::io::Result<()> {
    match behaviour {
        Behaviour::Answers(bytes) => stream.write_all(bytes).await,
        Behaviour::Closes(bytes) => {
            stream.write_all(bytes).await?;
            stream.shutdown().await
        }
        Behaviour::Hangs(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            std::future::pending().await
        }
        Behaviour::Drips(bytes) => {
            stream.write_all(bytes).await?;
            let mut clock = tokio::time::interval(Duration::from_millis(5));
            loop {
                clock.tick().await;
                stream.write_all(b"#").await?;
                stream.flush().await?;
            }
        }
        Behaviour::Floods(bytes) => {
            stream.write_all(bytes).await?;
            loop {
                stream.write_all(&[0; 4096]).await?;
            }
        }
    }
}

fn config(url: &str) -> ClientConfig {
    ClientConfig {
        url: url.parse().unwrap(),
        credentials: None,
        tls: TlsConfig::default(),
        compression: Compression::Accepted,
        max_body_bytes: LIMIT,
    }
}

/// A page that came as a whole.
#[derive(Debug)]
struct Fetched {
    body: Vec<u8>,
    content_type: Option<String>,
}

async fn outcome(client: &mut Client, limit: Duration) -> Result<Fetched, (&'static str, String)> {
    let fetched = fetch(client, limit).await;
    fetched.map_err(|error| {
        assert!(FetchError::REASONS.contains(&error.reason()));
        (error.reason(), one_line(&error))
    })
}

async fn fetch(client: &mut Client, limit: Duration) -> Result<Fetched, FetchError> {
    let mut answer = client.fetch(limit).await?;
    let mut body = Vec::new();
    while let Some(bytes) = answer.next().await? {
        body.extend(bytes);
    }
    assert_eq!(answer.n_bytes(), body.len());
    Ok(Fetched { body, content_type: answer.content_type().map(str::to_owned) })
}

const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: 4\r\n\r\na 1\n";
