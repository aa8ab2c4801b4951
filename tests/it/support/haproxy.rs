//! HAProxy, as a proxy before or behind Tidegate.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use super::origin::reserve_port;
use super::{eventually, program};

/// One HAProxy process in the foreground, killed when it is dropped.
pub struct Haproxy {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
    _reservation: socket2::Socket,
}

impl Haproxy {
    /// Passes what it gets to `server`, with these parameters of its `bind` and these lines of its own; `None` where
    /// HAProxy is absent. One thread: whoever comes next may be served over the connection that was used last.
    #[track_caller]
    pub fn before(server: SocketAddr, bind: &str, lines: &str) -> Option<Haproxy> {
        let haproxy = program("haproxy")?;
        let (reservation, address) = reserve_port();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(
            &file,
            format!(
                "global\n  nbthread 1\n  maxconn 512\n\
                 listen all\n  mode http\n  bind {address} {bind}\n  timeout connect 15s\n  timeout server 15s\n\
                 {lines}\n  http-reuse always\n  server one {server}\n"
            ),
        )
        .unwrap();
        let child = Command::new(haproxy)
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Haproxy { child, address, _dir: dir, _reservation: reservation };
        eventually("HAProxy accepts", || TcpStream::connect(address).is_ok());
        Some(proxy)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
