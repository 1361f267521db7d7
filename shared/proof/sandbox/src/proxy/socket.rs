//! The proxy's sockets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// The server behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// On a unix socket.
    Unix(PathBuf),
    /// On a TCP port.
    Tcp(SocketAddr),
}

impl From<&Path> for Upstream {
    fn from(socket: &Path) -> Self {
        Self::Unix(socket.to_owned())
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Upstream {
    pub(super) fn connect(&self) -> io::Result<ServerStream> {
        Ok(match self {
            Self::Unix(socket) => ServerStream::Unix(UnixStream::connect(socket)?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                ServerStream::Tcp(stream)
            }
        })
    }
}

/// A connection to the server.
#[derive(Debug)]
pub(crate) enum ServerStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl ServerStream {
    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        }
    }
}

impl Read for &ServerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ServerStream::Unix(stream) => (&*stream).read(buffer),
            ServerStream::Tcp(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &ServerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ServerStream::Unix(stream) => (&*stream).write(bytes),
            ServerStream::Tcp(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A TCP port on 127.0.0.1 that stays ours while nothing listens on it, and connecting to it is refused.
#[derive(Debug)]
pub(crate) struct Port {
    /// Bound to the port but never listening: the kernel gives the port to nobody else, and to us again because all
    /// our sockets allow sharing (`SO_REUSEADDR`).
    _keeper: OwnedFd,
    address: SocketAddr,
}

impl Port {
    /// Takes a free one.
    pub(super) fn reserve() -> io::Result<Self> {
        // Children must not inherit it, or they would keep the port after us.
        let keeper = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&keeper, true)?;
        bind(&keeper, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = getsockname(&keeper)?.try_into()?;
        Ok(Self { _keeper: keeper, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens; std sets `SO_REUSEADDR`.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        TcpListener::bind(self.address)
    }
}
