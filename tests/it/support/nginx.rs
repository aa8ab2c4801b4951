//! nginx, as a server behind the proxy or as a proxy beside it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::origin::reserve_port;
use super::{eventually, program};

/// One nginx process in the foreground, killed when it is dropped.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
    _reservation: socket2::Socket,
}

impl Nginx {
    /// Serves a directory, with these directives in its `server` block; `None` where nginx is absent.
    #[track_caller]
    pub fn start(directives: &str) -> Option<Nginx> {
        Nginx::listening("", "", directives)
    }

    /// The same with more parameters of its `listen`, and directives beside its `server` block.
    #[track_caller]
    pub fn listening(parameters: &str, http: &str, directives: &str) -> Option<Nginx> {
        let nginx = program("nginx")?;
        let (reservation, address) = reserve_port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("www")).unwrap();
        let server = format!("listen {address} reuseport {parameters}; {directives}");
        std::fs::write(dir.path().join("nginx.conf"), configuration(dir.path(), http, &server)).unwrap();
        let child = Command::new(nginx)
            .arg("-p")
            .arg(dir.path())
            .args(["-e", "stderr", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Nginx { child, address, dir, _reservation: reservation };
        eventually("nginx accepts", || TcpStream::connect(address).is_ok());
        Some(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that it serves.
    pub fn www(&self) -> std::path::PathBuf {
        self.dir.path().join("www")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &Path, http: &str, server: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
         events {{ worker_connections 512; }}
         http {{
           access_log off;
           client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
           uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
           client_max_body_size 0;
           {http}
           server {{ root {dir}/www; {server} }}
         }}"
    )
}
