//! The UDP socket under an endpoint.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked for in either direction. With Linux' default of 208 KiB a burst overruns the receiver's buffer and
/// thousands of packets are lost on a clean link.
const BUFFER_BYTES: usize = 8 << 20;

/// Binds a socket with large buffers. `[::]` takes IPv4 too.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    grow_buffers(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn grow_buffers(socket: &Socket) -> io::Result<()> {
    // The FORCE options pass the host's limit by, with CAP_NET_ADMIN; the plain ones are cut to it silently.
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(BUFFER_BYTES)?;
    }
    // The kernel reports twice what was asked for: its own bookkeeping counts too (socket(7)).
    let (receive, send) = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    if receive.min(send) < BUFFER_BYTES {
        tracing::warn!(
            receive,
            send,
            wanted = BUFFER_BYTES,
            "the host caps socket buffers, fast links will lose packets: raise net.core.rmem_max and net.core.wmem_max"
        );
    } else {
        tracing::debug!(receive, send, "socket buffers");
    }
    Ok(())
}
