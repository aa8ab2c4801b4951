//! A client that says exactly what it is told to, and hears exactly what was answered.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::wire::{self, Message};
use super::{DEADLINE, certs::Trust};

/// One connection, in the clear or under TLS.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

/// What a connection must be able to do.
pub trait Stream: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

impl Stream for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn tcp(&self) -> &TcpStream {
        &self.sock
    }
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client { stream: BufReader::new(Box::new(dial(address))) }
    }

    /// From another address of this machine.
    #[track_caller]
    pub fn connect_from(from: IpAddr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        let stream = TcpStream::from(socket);
        set_up(&stream);
        Client { stream: BufReader::new(Box::new(stream)) }
    }

    /// Under TLS, asking for `name` and trusting `trust` alone.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, trust: &Trust) -> Client {
        Client { stream: BufReader::new(Box::new(trust.dial(dial(address), name))) }
    }

    /// Sends bytes as they are. The proxy may have hung up already: what it said is still to be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        let _ = self.stream.get_mut().flush();
        self
    }

    /// Sends as much as fits within a second; how much that was.
    pub fn send_until_blocked(&mut self, piece: &[u8], limit: usize) -> usize {
        let second = std::time::Duration::from_secs(1);
        self.stream.get_ref().tcp().set_write_timeout(Some(second)).unwrap();
        let mut sent = 0;
        while sent < limit {
            match self.stream.get_mut().write(piece) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => sent += bytes,
            }
        }
        self.stream.get_ref().tcp().set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }

    /// A whole response.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        self.try_response().unwrap_or_else(|error| panic!("no whole response: {error}"))
    }

    pub fn try_response(&mut self) -> io::Result<Message> {
        let mut message = wire::read_head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        wire::read_response_body(&mut self.stream, &mut message)?;
        Ok(message)
    }

    /// A head, of an interim or of a final response; its body stays unread.
    #[track_caller]
    pub fn head(&mut self) -> Message {
        wire::read_head(&mut self.stream).unwrap().expect("a response head, not the end")
    }

    /// The body behind a head that has been read.
    pub fn body(&mut self, message: &mut Message) -> io::Result<()> {
        wire::read_response_body(&mut self.stream, message)
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// A GET with further fields, each ending in CR LF.
    #[track_caller]
    pub fn get_with(&mut self, path: &str, fields: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).response()
    }

    /// Whether the other side ends the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Ends what this side has to say.
    pub fn finish(&mut self) {
        let _ = self.stream.get_ref().tcp().shutdown(std::net::Shutdown::Write);
    }
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Message {
    Client::connect(address).get_with(path, "Connection: close\r\n")
}

/// A socket that gives up at the deadline.
#[track_caller]
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)
        .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
    set_up(&stream);
    stream
}

fn set_up(stream: &TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
}
