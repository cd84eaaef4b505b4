//! Something between a client and a server that cuts their connections where it is told to.
//!
//! It passes on whatever it gets. Only to cut at a message it has to know where one ends: there it understands PostgreSQL, without
//! TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// Where a connection is cut, counted in the messages of PostgreSQL that go one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// After so many messages: as soon as the last of them has passed, or before the first.
    After(usize),
    /// After so many messages and the first byte of the one that follows.
    Within(usize),
}

impl Place {
    /// One after the other, as messages pass.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).flat_map(|messages| [Self::After(messages), Self::Within(messages)])
    }
}

/// Listens on a free port and passes on to a server, or to one of several.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// At least one. Each connection goes to the next that takes it.
    servers: Vec<SocketAddr>,
    state: Mutex<State>,
    /// Nothing is held back any more.
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of each connection, and both of its ends.
    open: Vec<(usize, TcpStream, TcpStream)>,
    /// The number of the next connection.
    next: usize,
    /// The first connection whose messages are counted.
    counted_from: usize,
    /// Where to cut, seen from what has passed that way.
    cut: Option<(Way, Place)>,
    /// Connections are ended as soon as they are made.
    is_closed: bool,
    /// Nothing passes, and nobody is told.
    is_held: bool,
    has_ended: bool,
}

impl Proxy {
    /// Passes on to this server from now on.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub fn start(server: SocketAddr) -> std::io::Result<Self> {
        Self::start_before(vec![server])
    }

    /// Passes on to these servers, one connection after the other to the next that takes it, as whatever stands before several equal
    /// servers does.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub fn start_before(servers: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { servers, state: Mutex::default(), released: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("proxy".to_owned()).spawn(move || accepting.accept(&listener))?;
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets what goes that way, over all connections together, pass as far as that place, and then cuts them all. What comes later
    /// passes.
    pub fn cut_at(&self, way: Way, place: Place) {
        self.shared.state().cut = Some((way, place));
    }

    /// Connections that are there now are not meant by [`Proxy::cut_at`]: they are neither counted nor cut.
    pub fn leave_alone(&self) {
        let mut state = self.shared.state();
        state.counted_from = state.next;
    }

    /// Takes back a cut. Whether it was still to come.
    pub fn spare(&self) -> bool {
        self.shared.state().cut.take().is_some()
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.shared.state().end_from(0);
    }

    /// Cuts all connections, and ends new ones until [`Proxy::open`].
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        state.end_from(0);
    }

    /// Passes on again.
    pub fn open(&self) {
        self.shared.state().is_closed = false;
    }

    /// Lets nothing pass either way until [`Proxy::release`]; what comes meanwhile waits.
    pub fn hold(&self) {
        self.shared.state().is_held = true;
    }

    /// Passes on what waited, and what comes.
    pub fn release(&self) {
        self.shared.state().is_held = false;
        self.shared.released.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.has_ended = true;
        state.is_held = false;
        state.end_from(0);
        self.shared.released.notify_all();
        drop(state);
        // Wakes whoever waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Ends the connections with this number and those after it.
    fn end_from(&mut self, first: usize) {
        self.open.retain(|(number, client, server)| {
            if *number >= first {
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            }
            *number < first
        });
    }

    /// How many of these bytes may pass, and whether everything is cut after them.
    fn may_pass(&mut self, way: Way, messages: &mut Messages, bytes: &[u8]) -> (usize, bool) {
        let mut passing = 0;
        loop {
            let place = self.cut.as_ref().filter(|(cut, _)| *cut == way).map(|(_, place)| *place);
            let rest = &bytes[passing..];
            if place == Some(Place::After(0)) || (place == Some(Place::Within(0)) && !rest.is_empty()) {
                self.cut = None;
                return (passing + usize::from(place == Some(Place::Within(0))), true);
            }
            if rest.is_empty() {
                return (passing, false);
            }
            let (length, is_whole) = messages.pass(rest);
            passing += length;
            if let Some((cut, Place::After(left) | Place::Within(left))) = &mut self.cut
                && *cut == way
            {
                *left -= usize::from(is_whole);
            }
        }
    }
}

/// How far the messages of a connection have passed, one way. A message is a byte that says what it is, a length, which counts
/// itself, and what it brings; the first one of a client has no such byte.
struct Messages {
    /// What has passed of the byte and the length, and how long they are.
    begun: Vec<u8>,
    beginning: usize,
    /// How much of what it brings is still to pass.
    left: usize,
}

impl Messages {
    fn new(way: Way) -> Self {
        Self { begun: Vec::new(), beginning: if way == Way::There { 4 } else { 5 }, left: 0 }
    }

    /// How many of these bytes belong to the message that is passing, and whether it is whole with them.
    fn pass(&mut self, bytes: &[u8]) -> (usize, bool) {
        let begins = bytes.len().min(self.beginning - self.begun.len());
        self.begun.extend(&bytes[..begins]);
        if self.begun.len() < self.beginning {
            return (begins, false);
        }
        if begins > 0 {
            let length =
                self.begun[self.beginning - 4..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            self.left = length.saturating_sub(4);
        }
        let brought = self.left.min(bytes.len() - begins);
        self.left -= brought;
        let is_whole = self.left == 0;
        if is_whole {
            self.begun.clear();
            self.beginning = 5;
        }
        (begins + brought, is_whole)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As soon as nothing is held back.
    fn unheld(&self) -> MutexGuard<'_, State> {
        let waiting = self.released.wait_while(self.state(), |state| state.is_held);
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.state().has_ended {
                return;
            }
            // A client whose server is gone sees its connection end.
            let Ok(client) = client else { continue };
            let _ = self.connect(client);
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let first = {
            let state = self.state();
            if state.is_closed {
                return Ok(());
            }
            state.next
        };
        let server = self.connect_to_one(first)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = (client.try_clone()?, server.try_clone()?);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.push((number, ends.0, ends.1));
        drop(state);
        self.pass_on(number, Way::There, client.try_clone()?, server.try_clone()?)?;
        self.pass_on(number, Way::Back, server, client)
    }

    /// The server whose turn it is, or the next one that takes connections.
    fn connect_to_one(&self, first: usize) -> std::io::Result<TcpStream> {
        let count = self.servers.len();
        let in_turn = (0..count).map(|place| self.servers[(first + place) % count]);
        let mut refusal = std::io::Error::from(std::io::ErrorKind::NotFound);
        for server in in_turn {
            match TcpStream::connect(server) {
                Ok(server) => return Ok(server),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn pass_on(
        self: &Arc<Self>,
        number: usize,
        way: Way,
        mut from: TcpStream,
        mut to: TcpStream,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        let mut messages = Messages::new(way);
        let passing = move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                let mut state = shared.unheld();
                let (passing, is_cut) = if number < state.counted_from {
                    (bytes, false)
                } else {
                    state.may_pass(way, &mut messages, &buffer[..bytes])
                };
                if is_cut {
                    // Under the lock, so that no connection is cut that is made after this one.
                    let _ = to.write_all(&buffer[..passing]);
                    let counted_from = state.counted_from;
                    state.end_from(counted_from);
                    break;
                }
                drop(state);
                if to.write_all(&buffer[..passing]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        };
        thread::Builder::new().name("proxy".to_owned()).spawn(passing)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client says first, and two messages after it: one that brings something, and one that does not.
    const SAID: [&[u8]; 3] = [b"\0\0\0\x0afirst.", b"Q\0\0\0\x07abc", b"S\0\0\0\x04"];

    /// How many bytes pass before the cut, read so many at a time.
    fn passed(place: Place, at_a_time: usize) -> Option<usize> {
        let mut state = State { cut: Some((Way::There, place)), ..State::default() };
        let mut messages = Messages::new(Way::There);
        let mut passed = 0;
        for bytes in SAID.concat().chunks(at_a_time) {
            let (passing, is_cut) = state.may_pass(Way::There, &mut messages, bytes);
            passed += passing;
            if is_cut {
                return Some(passed);
            }
        }
        None
    }

    #[test]
    fn a_message_is_known_however_it_is_read() {
        let lengths = SAID.map(<[u8]>::len);
        for at_a_time in 1..=SAID.concat().len() {
            for messages in 0..=SAID.len() {
                let before: usize = lengths[..messages].iter().sum();
                assert_eq!(passed(Place::After(messages), at_a_time), Some(before), "{at_a_time}");
                let within = (messages < SAID.len()).then_some(before + 1);
                assert_eq!(passed(Place::Within(messages), at_a_time), within, "{at_a_time}");
            }
        }
    }

    #[test]
    fn connections_go_to_the_next_server_that_takes_them() {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, gone, other) = (bind(), bind(), bind());
        let servers = [&one, &gone, &other].map(|server| server.local_addr().unwrap());
        drop(gone);
        let front = Proxy::start_before(servers.to_vec()).unwrap();
        let greetings = [(&one, b"1"), (&other, b"2"), (&other, b"2"), (&one, b"1")];
        for (server, greeting) in greetings {
            let mut client = TcpStream::connect(front.address()).unwrap();
            server.accept().unwrap().0.write_all(greeting).unwrap();
            let mut told = [0];
            client.read_exact(&mut told).unwrap();
            assert_eq!(&told, greeting);
        }
    }

    #[test]
    fn what_goes_the_other_way_is_not_counted() {
        let mut state = State { cut: Some((Way::Back, Place::After(0))), ..State::default() };
        assert_eq!(state.may_pass(Way::There, &mut Messages::new(Way::There), SAID[0]), (10, false));
        assert_eq!(state.may_pass(Way::Back, &mut Messages::new(Way::Back), SAID[1]), (0, true));
    }
}
