//! The simulator as a process of its own, steered over its control API.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use graph_simulator::Stats;
use harness::{keeper, wait_until};

/// A running simulator; ends when dropped.
pub struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts it on a free port of the loopback address; every send takes so long.
    pub fn start(latency: Duration) -> Self {
        let mut command = Command::new(program());
        command
            .args(["--listen", "127.0.0.1:0", "--keep-messages", "0", "--threads", "2"])
            .args(["--latency-ms", &latency.as_millis().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = keeper::spawn(command).expect("the simulator starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it was asked for");
        BufReader::new(out).read_line(&mut line).expect("the simulator says where it is");
        let address =
            line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("no address in {line:?}")).1.to_owned();
        Self { child, address }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        let mut stream = TcpStream::connect(&self.address).expect("the simulator listens");
        let request = format!("GET /_control/stats HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("the simulator reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the simulator answers");
        let body = answer.split_once("\r\n\r\n").expect("an answer has a body").1;
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }

    /// Waits until it has accepted so many in all.
    pub fn wait_for_accepted(&self, wanted: u64, patience: Duration) {
        wait_until("messages to be accepted", patience, || {
            let accepted = self.stats().accepted;
            if accepted >= wanted { Ok(()) } else { Err(accepted) }
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is our child and nobody has waited for it yet, so the pid is its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The release binary, which lies beside this program.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    let path = own.with_file_name("graph-simulator");
    assert!(path.exists(), "{} is missing: run `make bench`, which builds it", path.display());
    path
}
