//! One connection: read, run, wait for durability, reply; again until one side ends it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pugdb_wire::resp::{Limits, Request, RequestDecoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::budget::{Exhausted, Reservation};
use crate::clients::{Client, Registration};
use crate::commands;
use crate::failure::Failure;
use crate::limits::{LINGER, LINGER_BYTES, PRESENCE_PAUSE, READ_AHEAD_BYTES, READ_BYTES};
use crate::login;
use crate::output::{Output, Tells};
use crate::session::Session;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::tls::{looks_like_tls, tls_alert};

pub(crate) struct Connection {
    stream: Stream,
    shared: Arc<Shared>,
    decoder: RequestDecoder,
    /// Bytes that no command was made of yet.
    input: BytesMut,
    /// For `input`.
    reserved: Reservation,
    /// A command that waits until a pause of all clients is over, or for its turn to check a password.
    held: Option<Request>,
    /// No command of it has run.
    is_new: bool,
    /// Its turn to check a password.
    login_turn: LoginTurn,
    session: Session,
    output: Output,
    /// The place among the clients, held while it lives.
    _registration: Registration,
}

/// Why commands stop running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// All complete commands ran.
    NeedsInput,
    /// There are more, but the replies so far are to be sent first.
    OutputFull,
    /// The connection ends when the replies so far are sent.
    Closing,
    /// The last command asks that its reply waits.
    Delayed,
    /// The next command waits until a pause of all clients is over.
    Held,
    /// The next command waits for its turn to check a password.
    Login,
    /// The connection ends at once.
    Killed,
}

/// What ends a wait before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    /// The server is asked to end.
    Stop,
    /// The connection is.
    Kill,
}

/// Done when the server or the connection is asked to end, and again whenever it is asked after that.
fn interrupt(mut stopped: watch::Receiver<bool>, client: Arc<Client>) -> impl Future<Output = Interrupt> {
    let mut waiting = Box::pin(async move {
        let mut killed = pin!(client.killed());
        // An error means that the server is gone: stop as well.
        let mut stop = pin!(stopped.wait_for(|&stopped| stopped));
        poll_fn(|context| {
            if killed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Interrupt::Kill);
            }
            stop.as_mut().poll(context).map(|_| Interrupt::Stop)
        })
        .await
    });
    let mut came = None;
    poll_fn(move |context| {
        if came.is_none()
            && let Poll::Ready(interrupt) = waiting.as_mut().poll(context)
        {
            came = Some(interrupt);
        }
        came.map_or(Poll::Pending, Poll::Ready)
    })
}

/// Who has not said who it is may say that, and little else.
fn limits_of(session: &Session) -> Limits {
    if session.identity.is_known() { Limits::default() } else { Limits::UNAUTHENTICATED }
}

/// The turn of a connection to check a password.
enum LoginTurn {
    None,
    Held {
        _permit: OwnedSemaphorePermit,
    },
    /// The server ends: nobody waits for others any more.
    NotNeeded,
}

impl From<Option<OwnedSemaphorePermit>> for LoginTurn {
    fn from(permit: Option<OwnedSemaphorePermit>) -> Self {
        permit.map_or(Self::NotNeeded, |permit| Self::Held { _permit: permit })
    }
}

/// What a wait for bytes brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Bytes,
    /// The server is asked to end.
    Stop,
    /// The client has closed its side, or the connection broke.
    End,
}

impl Connection {
    pub(crate) fn new(stream: Stream, shared: Arc<Shared>, registration: Registration) -> Self {
        let session = Session::new(Arc::clone(&shared), Arc::clone(&registration.client));
        Self {
            stream,
            decoder: RequestDecoder::new(limits_of(&session)),
            input: BytesMut::new(),
            reserved: shared.budget.reservation(),
            held: None,
            is_new: true,
            login_turn: LoginTurn::None,
            session,
            output: Output::new(shared.budget.reservation()),
            shared,
            _registration: registration,
        }
    }

    /// Serves until one side ends it. A broken connection is no event: nobody is there to be told.
    pub(crate) async fn serve(mut self, stopped: watch::Receiver<bool>) {
        let mut interrupt = pin!(interrupt(stopped, Arc::clone(&self.session.client)));
        if self.session.client.certificate().is_some() {
            // As a command: it may wait for the disk.
            let gate = Arc::clone(&self.shared.gate);
            gate.run(|| self.session.log_in_by_its_certificate()).await;
            if self.session.closing {
                return;
            }
            self.decoder.set_limits(limits_of(&self.session));
        }
        loop {
            self.session.client.note_idle();
            match self.read(interrupt.as_mut()).await {
                Input::Bytes => {}
                Input::Stop => return self.finish_received(interrupt.as_mut()).await,
                Input::End => return self.part().await,
            }
            if self.is_new && looks_like_tls(&self.input) {
                return self.refuse_tls().await;
            }
            self.session.client.note_active();
            match self.run_received(interrupt.as_mut()).await {
                Ok(Pause::Closing) => return self.linger().await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// The client has ended its side. Over TLS it is told that this is all, and not the doing of somebody on the way.
    async fn part(&mut self) {
        if self.stream.is_secured() {
            let _ = timeout(LINGER, self.stream.shutdown()).await;
        }
    }

    /// Ends a connection whose client speaks TLS where none is spoken, with a word that its library knows.
    async fn refuse_tls(&mut self) {
        self.shared.stats.protocol_errors.add(1);
        // The socket's buffer is empty and takes it at once.
        let _ = self.stream.socket().send(tls_alert());
        self.linger().await;
    }

    /// Runs all complete commands and sends their replies, in portions when those are many.
    async fn run_received(
        &mut self,
        mut interrupt: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> io::Result<Pause> {
        loop {
            let gate = Arc::clone(&self.shared.gate);
            let pause = gate.run(|| self.run_commands()).await;
            if pause == Pause::Killed {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if pause == Pause::Delayed {
                let delay = self.session.take_delay();
                self.wait_for(sleep(delay), interrupt.as_mut()).await?;
            }
            self.settle().await;
            self.send(interrupt.as_mut()).await?;
            match pause {
                Pause::NeedsInput | Pause::Closing | Pause::Killed => return Ok(pause),
                Pause::OutputFull | Pause::Delayed => {}
                Pause::Held => {
                    let shared = Arc::clone(&self.shared);
                    self.wait_for(shared.pause.over(), interrupt.as_mut()).await?;
                }
                Pause::Login => {
                    let (turns, mut turn) = (Arc::clone(&self.shared.logins.turns), None);
                    let wait = async { turn = turns.acquire_owned().await.ok() };
                    self.wait_for(wait, interrupt.as_mut()).await?;
                    self.login_turn = turn.into();
                }
            }
        }
    }

    /// Waits for something else than the client, until it comes or the server ends. Whoever does not wait for it is no
    /// client any more.
    async fn wait_for(
        &mut self,
        awaited: impl Future<Output = ()>,
        mut interrupt: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> io::Result<()> {
        let client = Arc::clone(&self.session.client);
        client.change(|state| state.is_waiting = true);
        let mut awaited = pin!(awaited);
        let outcome = loop {
            let waited = poll_fn(|context| {
                if awaited.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                interrupt.as_mut().poll(context).map(|interrupt| match interrupt {
                    Interrupt::Stop => Ok(()),
                    Interrupt::Kill => Err(io::ErrorKind::ConnectionAborted.into()),
                })
            });
            match timeout(PRESENCE_PAUSE, waited).await {
                Ok(waited) => break waited,
                Err(_) if self.stream.has_ended() => break Err(io::ErrorKind::ConnectionAborted.into()),
                Err(_) => {}
            }
        };
        client.change(|state| state.is_waiting = false);
        outcome
    }

    /// Runs complete commands in order, until there is a reason to pause.
    fn run_commands(&mut self) -> Pause {
        let mut ran = 0;
        let shared = Arc::clone(&self.shared);
        let mut names = Some(shared.shape.keep(self.session.client.id));
        let pause = loop {
            if self.session.client.is_killed() {
                break Pause::Killed;
            }
            if !self.session.delay().is_zero() {
                break Pause::Delayed;
            }
            if self.session.closing {
                break Pause::Closing;
            }
            if self.output.is_full() {
                break Pause::OutputFull;
            }
            let next = match self.held.take() {
                Some(held) => Ok(Some(held)),
                None => self.decoder.decode(&mut self.input),
            };
            match next {
                Ok(Some(request)) => {
                    if commands::is_held(&self.session, request.arguments()) {
                        self.held = Some(request);
                        break Pause::Held;
                    }
                    if login::is_login(request.arguments()) && matches!(self.login_turn, LoginTurn::None) {
                        let Ok(turn) = Arc::clone(&shared.logins.turns).try_acquire_owned() else {
                            self.held = Some(request);
                            break Pause::Login;
                        };
                        self.login_turn = Some(turn).into();
                    }
                    // What was given a moment ago decides how it runs; whose user is gone is told so by the run.
                    let _ = self.session.refresh_rights();
                    if commands::is_exclusive(&self.session, request.arguments()) {
                        // Its own hold goes first, or it would wait for itself.
                        drop(names.take());
                        let _alone = block_in_place(|| shared.shape.change());
                        self.run_command(&request);
                    } else {
                        names.get_or_insert_with(|| shared.shape.keep(self.session.client.id));
                        self.run_command(&request);
                    }
                    ran += 1;
                    self.is_new = false;
                    self.login_turn = LoginTurn::None;
                    self.decoder.set_limits(limits_of(&self.session));
                }
                Ok(None) => break Pause::NeedsInput,
                Err(error) => {
                    self.shared.stats.protocol_errors.add(1);
                    self.output.push(&error.to_reply(), Tells::Nothing, self.session.protocol);
                    break Pause::Closing;
                }
            }
        };
        self.shared.stats.commands.add(ran);
        if self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
        pause
    }

    /// Runs one command. Its panic is its own: it is answered, and the server goes on.
    fn run_command(&mut self, request: &Request) {
        let (session, output) = (&mut self.session, &mut self.output);
        let ran = catch_unwind(AssertUnwindSafe(|| commands::run(session, request.arguments(), output)));
        if ran.is_err() {
            self.shared.stats.panics.add(1);
            report_panic(self.session.client.see(|state| state.last_command));
            self.output.push(&Failure::INTERNAL.to_reply(), Tells::Nothing, self.session.protocol);
            // Its state may be half changed.
            self.session.closing = true;
        }
    }

    /// Waits until everything that the replies tell of is durable. Step 2 of a reply; no thread waits.
    ///
    /// The last write's ticket covers all earlier ones; the shown ticket covers what the reads saw of others' writes.
    async fn settle(&mut self) {
        let ticket = self.session.take_ticket();
        if !self.output.tells_data() {
            return self.output.settle();
        }
        let shown = || self.shared.db.shown_ticket();
        let ticket = match (ticket, self.shared.sync_failed()) {
            (Some(ticket), false) => ticket.and(shown()),
            (None, false) => shown(),
            // Reads go on after a failed sync: whoever waited for it was told. What writes have is an error already.
            (Some(ticket), true) => ticket,
            (None, true) => return self.output.settle(),
        };
        match ticket.await {
            Ok(()) => self.output.settle(),
            Err(error) => {
                self.shared.note_sync_failure();
                self.output.settle_failed(&Failure::from(error));
            }
        }
    }

    /// Sends the replies and gives their memory back. While the client does not read, no further command of it runs;
    /// if it reads nothing for too long, it is over.
    async fn send(&mut self, mut interrupt: Pin<&mut impl Future<Output = Interrupt>>) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        while !self.output.is_empty() {
            let unsent = |stream: Pin<&mut Stream>, output: &Output, context: &mut Context<'_>| {
                stream.poll_write(context, output.unsent())
            };
            let count = self.push_out(unsent, interrupt.as_mut()).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.shared.stats.bytes_out.add(count);
            self.output.sent(count);
        }
        // What TLS has sealed and not sent is part of the replies until here.
        let flush =
            |stream: Pin<&mut Stream>, _: &Output, context: &mut Context<'_>| stream.poll_flush(context);
        self.push_out(flush, interrupt.as_mut()).await?;
        self.output.release();
        Ok(())
    }

    /// Waits for the client to take something, for a bounded time.
    async fn push_out<R>(
        &mut self,
        mut step: impl FnMut(Pin<&mut Stream>, &Output, &mut Context<'_>) -> Poll<io::Result<R>>,
        mut interrupt: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> io::Result<R> {
        let Self { stream, output, shared, .. } = self;
        let pushed = poll_fn(|context| {
            let pushed = step(Pin::new(&mut *stream), output, context);
            if pushed.is_pending() && interrupt.as_mut().poll(context) == Poll::Ready(Interrupt::Kill) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            pushed
        });
        timeout(shared.options.stall_wait, pushed).await.unwrap_or_else(|_| {
            shared.stats.stalled.add(1);
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Waits for bytes and appends them to the input.
    async fn read(&mut self, mut interrupt: Pin<&mut impl Future<Output = Interrupt>>) -> Input {
        let waiting = self.decoder.buffered_bytes();
        // Of a large argument, so much is read at once that is certain to belong to it, and a bounded part of that.
        let needed = self.decoder.needed_hint().min(READ_AHEAD_BYTES);
        let in_place = waiting > 0 && needed > READ_BYTES;
        if self.reserved.set(if in_place { waiting + needed } else { waiting }) == Err(Exhausted) {
            self.shared.stats.out_of_buffers.add(1);
            self.output.push(&Failure::OUT_OF_BUFFERS.to_reply(), Tells::Nothing, self.session.protocol);
            self.output.settle();
            // Before the client hears of it.
            self.give_back_input();
            // The connection ends either way.
            let _ = self.send(interrupt.as_mut()).await;
            self.linger().await;
            return Input::End;
        }
        let read = if in_place {
            self.read_in_place(needed, interrupt).await
        } else {
            self.read_small(interrupt).await
        };
        match read {
            Ok(Ok(0) | Err(_)) | Err(Interrupt::Kill) => Input::End,
            Ok(Ok(count)) => {
                self.shared.stats.bytes_in.add(count);
                Input::Bytes
            }
            Err(Interrupt::Stop) => Input::Stop,
        }
    }

    /// Lets others have the memory of a connection that reads no further command.
    fn give_back_input(&mut self) {
        self.input = BytesMut::new();
        // To less a reservation always goes.
        let _ = self.reserved.set(0);
    }

    /// Reads by way of the stack, so that a connection that waits holds no buffer.
    async fn read_small(
        &mut self,
        mut interrupt: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> Result<io::Result<usize>, Interrupt> {
        let Self { stream, input, .. } = self;
        poll_fn(|context| {
            #[expect(
                clippy::large_stack_arrays,
                reason = "not initialised, and small beside a thread's stack"
            )]
            let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    input.extend_from_slice(buffer.filled());
                    Poll::Ready(Ok(Ok(buffer.filled().len())))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Ok(Err(error))),
                Poll::Pending => interrupt.as_mut().poll(context).map(Err),
            }
        })
        .await
    }

    /// Reads the rest of a large argument to where it will stay.
    async fn read_in_place(
        &mut self,
        needed: usize,
        mut interrupt: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> Result<io::Result<usize>, Interrupt> {
        self.input.reserve(needed);
        let mut read = pin!(self.stream.read_buf(&mut self.input));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending => interrupt.as_mut().poll(context).map(Err),
        })
        .await
    }

    /// The server ends: runs what the operating system has received for this connection, and closes it.
    async fn finish_received(mut self, mut interrupt: Pin<&mut impl Future<Output = Interrupt>>) {
        let mut space = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = self.stream.read_received(&mut space) {
            self.input.extend_from_slice(space.get(..count).unwrap_or_default());
            match self.run_received(interrupt.as_mut()).await {
                Ok(Pause::Closing) => break,
                Ok(_) => {}
                Err(_) => return,
            }
            if self.reserved.set(self.decoder.buffered_bytes()) == Err(Exhausted) {
                break;
            }
        }
        // It is over either way.
        let _ = timeout(LINGER, self.stream.shutdown()).await;
    }

    /// Ends the sending side and reads on for a moment: a socket that is closed with unread bytes is reset, and the
    /// reset can overtake the last reply.
    async fn linger(&mut self) {
        self.give_back_input();
        if !matches!(timeout(LINGER, self.stream.shutdown()).await, Ok(Ok(()))) {
            return;
        }
        let stream = &mut self.stream;
        let drain = async {
            let mut space = vec![0; READ_BYTES];
            let mut left = LINGER_BYTES;
            while let Ok(count @ 1..) = stream.read(&mut space).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        // Whoever goes on sending is reset.
        let _ = timeout(LINGER, drain).await;
    }
}

/// Tells the operator. The message of the panic is printed by the panic itself; it holds no user's bytes.
#[expect(clippy::print_stderr, reason = "a bug must not pass unseen, and there is no log yet")]
fn report_panic(command: &str) {
    eprintln!(
        "pugdb: the command `{command}` ended in a panic; its connection was closed. Please report it."
    );
}
