//! A line protocol over TCP: one request a line, one line in answer.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Listens on all addresses, on a thread of its own and one more for each connection, and answers each line by
/// `answer`. A connection that breaks ends its thread and nothing else.
pub fn serve(port: u16, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = Arc::clone(&answer);
            match connection {
                Ok(stream) => drop(thread::spawn(move || report(converse(&stream, &*answer)))),
                failed => report(failed.map(drop)),
            }
        }
    });
    Ok(())
}

fn converse(stream: &TcpStream, answer: &dyn Fn(&str) -> String) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        let mut reply = answer(line?.trim());
        reply.push('\n');
        (&mut &*stream).write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn report(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        eprintln!("connection lost: {error}");
    }
}
