//! The server over real sockets: a fake application behind it, a client that writes bytes before it.

mod harness;
mod limits;
mod passwords;
mod routes;
mod stop;
mod tls;
mod tokens;
