//! When the configuration is read again: on SIGHUP, and when its file has changed.

use std::{future, sync::Arc};

use tokio::{signal::unix::Signal, task};
use tracing::info;

use crate::{
    agent::Agent,
    config::{
        origin::{Loaded, Origin},
        watch::FileWatch,
    },
    error_chain::one_line,
};

/// Reads it again each time; `text` is what the file had at the start. Never ends.
pub async fn follow(agent: Arc<Agent>, origin: Origin, text: String, mut hangup: Signal) {
    let mut watch = origin.file.as_deref().map(|file| FileWatch::start(file, &text));
    drop(text);
    loop {
        tokio::select! {
            Some(()) = hangup.recv() => info!("SIGHUP: reading the configuration again"),
            () = changed(watch.as_mut()) => info!("the configuration file has changed"),
        }
        let again = origin.clone();
        match task::spawn_blocking(move || again.load()).await {
            Ok(loaded) => {
                let config = loaded.map(|Loaded { config, text }| {
                    if let Some(watch) = &mut watch {
                        watch.note(text);
                    }
                    config
                });
                // What became of it is said there.
                drop(agent.reload(config).await);
            }
            Err(error) => {
                let error = one_line(&error);
                tracing::error!(%error, "reading the configuration ended early, which is a bug");
            }
        }
    }
}

async fn changed(watch: Option<&mut FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => future::pending().await,
    }
}
