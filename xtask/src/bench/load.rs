//! Loads that the bench runs as a process of its own, on a CPU and in a network namespace of its choice.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::console;

/// What is done, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    kind: Kind,
    #[arg(long, default_value_t = 1)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Two processes hand one byte to and fro over pipes; on one CPU each hand-over is a context switch.
    Switches,
    /// The other of the two processes.
    Echo,
    /// TCP connections over the loopback device, each closed by the server at once.
    Connections,
    /// Datagrams over the loopback device to a port that nobody has open.
    ClosedPort,
}

impl Kind {
    /// The name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Switches => "switches",
            Self::Echo => "echo",
            Self::Connections => "connections",
            Self::ClosedPort => "closed-port",
        }
    }
}

/// The port that is closed: `discard`, which an empty namespace does not serve.
const CLOSED_PORT: u16 = 9;

/// Is the load, and prints how often it was done per second.
pub(super) fn run(options: &Options) -> Result<()> {
    let time = Duration::from_secs(options.seconds);
    let per_second = match options.kind {
        Kind::Switches => switches(time),
        Kind::Echo => return echo(),
        Kind::Connections => connections(time),
        Kind::ClosedPort => closed_port(time),
    }?;
    console::say(&format!("{per_second:.1}"));
    Ok(())
}

/// Does it over and over for that long, and gives how often per second; one time may count as several.
fn repeat(time: Duration, count: f64, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    let mut n_done = 0.0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(n_done / elapsed.as_secs_f64());
        }
        once()?;
        n_done += count;
    }
}

fn switches(time: Duration) -> Result<f64> {
    let own = std::env::current_exe().context("this program has a path")?;
    let mut command = Command::new(own);
    command.args(["bench", "load", Kind::Echo.as_str()]);
    let mut echo = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut there), Some(mut back)) = (echo.stdin.take(), echo.stdout.take()) else {
        bail!("a child with pipes has none");
    };
    // Until the other process has come up.
    to_and_fro(&mut there, &mut back)?;
    let per_second = repeat(time, 2.0, || to_and_fro(&mut there, &mut back));
    // Its pipe ends, and so it does.
    drop(there);
    echo.wait()?;
    per_second
}

fn to_and_fro(there: &mut ChildStdin, back: &mut ChildStdout) -> Result<()> {
    there.write_all(&[0])?;
    Ok(back.read_exact(&mut [0])?)
}

fn echo() -> Result<()> {
    // The standard library's own handles have buffers.
    let mut from = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut to = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut byte = [0];
    while from.read(&mut byte)? == byte.len() {
        to.write_all(&byte)?;
    }
    Ok(())
}

fn connections(time: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    // It ends with the process. The server closes first, so that it is the one whose ports wait for late segments.
    thread::spawn(move || listener.incoming().for_each(drop));
    repeat(time, 1.0, || connection(address))
}

fn connection(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => bail!("the server has nothing to say, and said something"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn closed_port(time: Duration) -> Result<f64> {
    // A socket that is not connected does not hear that the port is closed.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    repeat(time, 1.0, || {
        socket.send_to(&[0], (Ipv4Addr::LOCALHOST, CLOSED_PORT))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{closed_port, connections, repeat};

    #[test]
    fn loads_on_the_loopback_device_do_something() {
        let time = Duration::from_millis(20);
        assert!(connections(time).unwrap() > 0.0);
        assert!(closed_port(time).unwrap() > 0.0);
    }

    #[test]
    fn what_was_done_is_counted_by_the_second() {
        let mut n_done = 0_u32;
        let per_second = repeat(Duration::from_millis(10), 2.0, || {
            n_done += 1;
            Ok(())
        });
        // At least the time that was asked for has gone by.
        assert!(per_second.unwrap() <= f64::from(n_done) * 2.0 * 100.0);
    }
}
