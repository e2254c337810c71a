//! Whether another Podmeter was on this node before this one: whoever comes first holds a name, which is an abstract socket
//! of the network namespace, and so nothing on a disk, and free again when its holder ends in whatever way.
//!
//! Two of them measure side by side, and neither disturbs the other; but who adds up the pages of both counts everything
//! twice. So the second one says that it is one, and nothing else follows from it: a Podmeter in a network namespace of its
//! own sees no other, and anybody in the namespace can take the name.

use std::{
    io,
    net::Shutdown,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::{Mutex, PoisonError},
};

use tracing::{debug, info, warn};

/// The name.
const NAME: &[u8] = b"podmeter";

/// This Podmeter among those of the node.
#[derive(Debug, Default)]
pub struct Instance(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The name's holder holds this.
    held: Option<UnixDatagram>,
    last: Option<Standing>,
}

/// Whether another one was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No other was.
    First,
    /// One was, and still is.
    Second,
    /// The system does not let it be known.
    Unknown,
}

impl Instance {
    /// Looks who is there, and says so when that has changed. It takes no time to speak of, and none once it is the first.
    pub fn look(&self) -> Standing {
        self.look_for(NAME)
    }

    fn look_for(&self, name: &[u8]) -> Standing {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held.is_some() {
            return Standing::First;
        }
        let (standing, error) = match hold(name) {
            Ok(socket) => {
                state.held = Some(socket);
                (Standing::First, None)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => (Standing::Second, None),
            Err(error) => (Standing::Unknown, Some(error)),
        };
        let last = state.last.replace(standing);
        match standing {
            _ if last == Some(standing) => {}
            Standing::First if last.is_none() => {}
            Standing::First => info!("the other Podmeter has gone"),
            Standing::Second => warn!(
                "another Podmeter runs on this node: both measure, but the sum of their pages counts twice; \
                 let one of them be scraped, or stop one"
            ),
            Standing::Unknown => {
                let error = error.map(|error| error.to_string());
                debug!(error, "it cannot be known whether another Podmeter runs on this node");
            }
        }
        standing
    }
}

/// Takes the name, or fails because another has it.
fn hold(name: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    // Nobody has anything to tell it.
    socket.shutdown(Shutdown::Both)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{Instance, Standing};

    #[test]
    fn the_second_is_the_first_when_the_first_has_gone() {
        let name = format!("podmeter-test-{}", std::process::id());
        let look = |instance: &Instance| instance.look_for(name.as_bytes());
        let [first, second] = [Instance::default(), Instance::default()];
        assert_eq!([look(&first), look(&second)], [Standing::First, Standing::Second]);
        assert_eq!([look(&second), look(&first)], [Standing::Second, Standing::First]);
        drop(first);
        assert_eq!(look(&second), Standing::First);
    }
}
