//! One connection, from its first byte to its last: hyper speaks HTTP, this file cuts off who is too slow.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future as _, poll_fn},
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::watch};

use super::{
    app::App,
    body::TakenTooSlowly,
    crowd::Member,
    limits::{Limit, Limits},
    router::Router,
    wire,
};

/// The smallest buffer that hyper takes.
const MIN_BUFFER_BYTES: usize = 8192;
/// How much is read, and for how long, of what a refused client goes on sending: closing a socket with unread bytes
/// resets the connection, and the client might never see the refusal.
const MAX_LINGER_BYTES: u64 = 256 * 1024;
const MAX_LINGER_TIME: Duration = Duration::from_secs(1);

/// Answers a client's requests until it leaves, is too slow, makes room for another, or the sender of `stopped` is dropped.
pub(super) async fn serve<A: App>(
    stream: TcpStream,
    address: IpAddr,
    member: &Member,
    router: Arc<Router<A>>,
    mut stopped: watch::Receiver<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays with Nagle's algorithm");
    }
    let limits = *router.limits();
    let pace = member.pace.clone();
    let mut sent_away = pin!(member.sent_away());
    let opened = tokio::select! {
        opened = wire::open(stream, address, &router, &pace) => opened,
        () = ended(&mut stopped) => return,
        () = &mut sent_away => return,
    };
    let Some((wire, peer)) = opened else { return };
    pace.begin();
    let io = TokioIo::new(wire);
    let service = service_fn(|request| {
        let (router, pace, peer) = (Arc::clone(&router), pace.clone(), peer.clone());
        async move {
            pace.begin_answer();
            let answer = router.answer(request, &peer).await;
            pace.end_answer();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = protocol(&limits).serve_connection(io, service);
    let mut stop = pin!(ended(&mut stopped));
    let mut is_stopping = false;
    let mut alarm = pin!(tokio::time::sleep(limits.header_time));
    let ended = poll_fn(|context| {
        if !is_stopping && stop.as_mut().poll(context).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(context) {
            return Poll::Ready(Ok(result));
        }
        if sent_away.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(None));
        }
        // The pace changes only while the connection is polled, so this sees each change.
        let Some((deadline, limit)) = pace.deadline(&limits) else {
            return Poll::Pending;
        };
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(context).map(|()| Err(Some(limit)))
    })
    .await;
    match ended {
        Ok(result) => {
            if let Err(error) = result {
                note(&error, &router);
            }
            linger(connection.into_parts().io.into_inner().into_tcp()).await;
        }
        Err(Some(limit)) => {
            tracing::debug!(limit = limit.as_str(), "cut off a client");
            router.limit_hit(limit);
        }
        Err(None) => tracing::debug!("a client that asks for nothing makes room for another"),
    }
}

/// Waits until the server is to stop.
async fn ended(stopped: &mut watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

fn protocol(limits: &Limits) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .max_headers(limits.n_headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER_BYTES))
        .header_read_timeout(None);
    protocol
}

/// Waits until the client has seen the end of the answers, and closes too.
pub(super) async fn linger(stream: TcpStream) {
    let mut rest = stream.take(MAX_LINGER_BYTES);
    let mut sink = tokio::io::sink();
    let discarded =
        tokio::time::timeout(MAX_LINGER_TIME, tokio::io::copy(&mut rest, &mut sink)).await;
    match discarded {
        Ok(Ok(n_bytes)) => tracing::trace!(n_bytes, "the client has closed"),
        Ok(Err(error)) => tracing::trace!(%error, "the client is gone"),
        Err(error) => tracing::debug!(%error, "the client does not close"),
    }
}

/// Counts what hyper refused by itself.
fn note<A: App>(error: &hyper::Error, router: &Router<A>) {
    if error.is_parse_too_large() {
        router.limit_hit(Limit::Headers);
    } else if error.source().is_some_and(<dyn Error>::is::<TakenTooSlowly>) {
        router.limit_hit(Limit::ScrapeTime);
    }
    tracing::debug!(%error, "a connection ended early");
}
