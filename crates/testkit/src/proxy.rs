//! Something between a client and a server that cuts their connections where it is told to.

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

/// Listens on a free port and passes on to a server.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    /// Nothing is held back any more.
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// Both ends of each connection.
    open: Vec<(TcpStream, TcpStream)>,
    /// Where to cut, and how many bytes may still pass that way.
    cut: Option<(Way, usize)>,
    /// What has passed since somebody asked, there and back.
    passed: [usize; 2],
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
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { server, state: Mutex::default(), released: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("proxy".to_owned()).spawn(move || accepting.accept(&listener))?;
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets so many bytes pass that way, over all connections together, and then cuts them all. What comes later passes.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.shared.state().cut = Some((way, bytes));
    }

    /// Takes back a cut. Whether it was still to come.
    pub fn spare(&self) -> bool {
        self.shared.state().cut.take().is_some()
    }

    /// How many bytes have passed that way since this was last asked for it.
    pub fn passed(&self, way: Way) -> usize {
        std::mem::take(&mut self.shared.state().passed[way as usize])
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        self.shared.state().end_all();
    }

    /// Cuts all connections, and ends new ones until [`Proxy::open`].
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        state.end_all();
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
        state.end_all();
        self.shared.released.notify_all();
        drop(state);
        // Wakes whoever waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn end_all(&mut self) {
        for (client, server) in self.open.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// How many of these bytes may pass, and whether everything is cut after them.
    fn may_pass(&mut self, way: Way, bytes: usize) -> (usize, bool) {
        let (passing, is_cut) = match &mut self.cut {
            Some((cut, left)) if *cut == way && bytes >= *left => (*left, true),
            Some((cut, left)) if *cut == way => {
                *left -= bytes;
                (bytes, false)
            }
            _ => (bytes, false),
        };
        self.passed[way as usize] += passing;
        if is_cut {
            self.cut = None;
        }
        (passing, is_cut)
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
        if self.state().is_closed {
            return Ok(());
        }
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.state().open.push((client.try_clone()?, server.try_clone()?));
        self.pass_on(Way::There, client.try_clone()?, server.try_clone()?)?;
        self.pass_on(Way::Back, server, client)
    }

    fn pass_on(self: &Arc<Self>, way: Way, mut from: TcpStream, mut to: TcpStream) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        let passing = move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                let mut state = shared.unheld();
                let (passing, is_cut) = state.may_pass(way, bytes);
                if is_cut {
                    // Under the lock, so that no connection is cut that is made after this one.
                    let _ = to.write_all(&buffer[..passing]);
                    state.end_all();
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
