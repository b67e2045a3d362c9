//! A server that sends back what it gets, on one thread: what is left of a store when nothing is stored. What it reaches
//! is the most that the loopback, the system and the client allow.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll;

const LISTENER: u64 = 0;

/// Serves until the process ends.
pub fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut streams: HashMap<u64, (TcpStream, Vec<u8>)> = HashMap::new();
    let mut last = LISTENER;
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                last += 1;
                let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                epoll::add(&epoll, &stream, epoll::EventData::new_u64(last), wanted)?;
                streams.insert(last, (stream, Vec::new()));
            } else if let Some((stream, pending)) = streams.get_mut(&number)
                && !echo(stream, pending, &mut buffer).unwrap_or(false)
            {
                // Closing it takes it out of the epoll.
                streams.remove(&number);
            }
        }
    }
}

/// Sends back all there is; false when the other side has hung up.
fn echo(stream: &mut TcpStream, pending: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<bool> {
    loop {
        while !pending.is_empty() {
            match stream.write(pending) {
                Ok(count) => drop(pending.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        match stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => pending.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
