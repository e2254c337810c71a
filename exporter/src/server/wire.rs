//! What a connection is made of: a socket that notes its pace, plain or with TLS around it.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{AlertDescription, Error, InvalidMessage};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    app::{App, TlsFailure},
    connection,
    limits::Limit,
    pace::{Pace, PacedStream},
    router::Router,
};
use crate::config::web::ClientAuth;

/// What a client that speaks HTTP where TLS is expected is told; Go's servers say it so.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 54\r\n\r\nthis endpoint speaks TLS: ask for it with https://...\n";

/// Whom the connection leads to.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The policy by which its certificate was checked, if it gave one.
    pub(super) certificate: Option<ClientAuth>,
    /// Which reading of the web configuration its handshake was made with.
    pub(super) generation: u64,
}

/// The bytes of a connection.
pub(super) enum Wire {
    Plain(PacedStream),
    Tls(Box<TlsStream<PacedStream>>),
}

/// Makes the connection safe, if that is wanted; none if that failed, which was said.
pub(super) async fn open<A: App>(
    stream: TcpStream,
    address: IpAddr,
    router: &Router<A>,
    pace: &Pace,
) -> Option<(Wire, Peer)> {
    let rules = router.rules().await;
    let generation = rules.generation;
    let Some(tls) = &rules.tls else {
        let wire = Wire::Plain(PacedStream::new(stream, pace.clone()));
        return Some((wire, Peer { address, certificate: None, generation }));
    };
    let handshake = async {
        if speaks_http(&stream).await? {
            let mut stream = stream;
            stream.write_all(SPEAK_TLS).await?;
            stream.shutdown().await?;
            connection::linger(stream).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, PlainHttp));
        }
        TlsAcceptor::from(tls.clone()).accept(PacedStream::new(stream, pace.clone())).await
    };
    match timeout(router.limits().handshake_time, handshake).await {
        Ok(Ok(stream)) => {
            let gave_one = stream.get_ref().1.peer_certificates().is_some();
            let certificate = gave_one.then_some(rules.client_auth);
            Some((Wire::Tls(Box::new(stream)), Peer { address, certificate, generation }))
        }
        Ok(Err(error)) => {
            router.tls_failed(address, reason(&error), &error);
            None
        }
        Err(_elapsed) => {
            tracing::debug!(limit = Limit::HandshakeTime.as_str(), "cut off a client");
            router.limit_hit(Limit::HandshakeTime);
            None
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it speaks HTTP without TLS: let it ask for https://")]
struct PlainHttp;

/// Whether the first byte is of a request line; that of a handshake is 22.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    Ok(first[0].is_ascii_uppercase())
}

/// What the operator can do something about.
fn reason(error: &io::Error) -> TlsFailure {
    let Some(cause) = error.get_ref() else {
        return TlsFailure::Broken;
    };
    if cause.is::<PlainHttp>() {
        return TlsFailure::NoTls;
    }
    match cause.downcast_ref::<Error>() {
        Some(Error::InvalidCertificate(_)) => TlsFailure::ClientCertificate,
        Some(Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => TlsFailure::ServerCertificate,
        Some(Error::PeerIncompatible(_)) => TlsFailure::Incompatible,
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => TlsFailure::NoTls,
        _ => TlsFailure::Broken,
    }
}

impl Wire {
    /// The socket, for what is left to be read of it.
    pub(super) fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(stream) => stream.into_inner(),
            Self::Tls(stream) => stream.into_inner().0.into_inner(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
