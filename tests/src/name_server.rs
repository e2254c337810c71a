//! A name server that gives one address for every name.

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
};

/// The question's type that asks for an IPv4 address.
const TYPE_A: [u8; 2] = [0, 1];

/// Serves on port 53 of an address of this machine's loopback, as long as the test runs; needs root.
pub fn serve(listen: Ipv4Addr, answer: Ipv4Addr) {
    let socket = UdpSocket::bind((listen, 53)).expect("port 53 of that address is free");
    // The thread ends with the process.
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((n_bytes, client)) = socket.recv_from(&mut query) {
            if let Some(reply) = query.get(..n_bytes).and_then(|query| reply(query, answer)) {
                // A client that has gone has its answer.
                drop(socket.send_to(&reply, client));
            }
        }
    });
}

/// The answer to the first question of a query: an address, or that there is none of that type.
fn reply(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let (header, rest) = query.split_at_checked(12)?;
    let name_end = rest.iter().position(|&byte| byte == 0)? + 1;
    let question = rest.get(..name_end + 4)?;
    let is_a = question.get(name_end..name_end + 2)? == TYPE_A;
    let mut reply = header.get(..2)?.to_vec();
    // A response without an error; one question, and one answer or none.
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(question);
    if is_a {
        // The name of the question, an address, for a minute.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(answer.octets());
    }
    Some(reply)
}
