//! What workloads say of themselves. A test believes this, and never transship's word alone.

mod counter;
mod dirty;
mod pair;
mod witness;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use transship_lab::Lab;

pub use counter::Counter;
pub use dirty::Dirty;
pub use pair::Pair;
pub use witness::Collector;

/// How long a workload may take to answer, or to do what it does all the time.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Where the test programs answer.
const PORT: u16 = 8080;

/// One line to a workload, from outside of both nodes, and its answer.
fn ask(lab: &Lab, address: &str, question: &str) -> Result<String> {
    let conversation = || {
        let mut stream = TcpStream::connect((address, PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = lab.client().in_network(conversation)?;
    Ok(answer.with_context(|| format!("ask {address}: {question}"))?.trim().to_owned())
}
