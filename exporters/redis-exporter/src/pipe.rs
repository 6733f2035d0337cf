//! A connection that many may use at once: what they send leaves in one write, and replies come in the order of commands.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use redis::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::command::Command;
use crate::error::CommandError;
use crate::resp::{Decoder, Reply};

/// How much is read at once, which most scrapes do not need.
const CHUNK: usize = 16 * 1024;

/// Up to this size what was needed for a long reply is kept for the next one.
const KEPT: usize = 256 * 1024;

/// A handle of the connection, which ends with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    sender: mpsc::UnboundedSender<Sent>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A command on its way.
#[derive(Debug)]
struct Sent {
    command: Command,
    reply: oneshot::Sender<Result<Value, CommandError>>,
}

impl Pipe {
    /// Serves commands over this stream in the background.
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Pipe {
        let (sender, commands) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve(stream, commands));
        Pipe { sender, _task: Arc::new(Task(task.abort_handle())) }
    }

    /// Sends a command.
    pub(crate) fn send(&self, command: Command) -> Answer {
        let (reply, answer) = oneshot::channel();
        // Fails only once the connection has ended, which the answer will say.
        let _ = self.sender.send(Sent { command, reply });
        Answer(answer)
    }
}

/// The reply to a command that was sent. An error that the server answers is a failure, too.
#[derive(Debug)]
pub(crate) struct Answer(oneshot::Receiver<Result<Value, CommandError>>);

impl Future for Answer {
    type Output = Result<Value, CommandError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| Err(CommandError::lost(&io::ErrorKind::UnexpectedEof.into()))))
    }
}

/// Serves until there is nobody left or the connection ends: then all who wait are told why.
async fn serve(stream: impl AsyncRead + AsyncWrite, commands: mpsc::UnboundedReceiver<Sent>) {
    let mut exchange = Exchange {
        stream: Box::pin(stream),
        commands,
        waiting: VecDeque::new(),
        output: Vec::new(),
        input: Vec::new(),
        decoder: Decoder::default(),
    };
    let failure = CommandError::lost(&poll_fn(|context| exchange.poll(context)).await);
    exchange.commands.close();
    while let Ok(sent) = exchange.commands.try_recv() {
        exchange.waiting.push_back(sent.reply);
    }
    for reply in exchange.waiting {
        // Who does not wait any more needs no telling.
        let _ = reply.send(Err(failure.clone()));
    }
}

/// What goes to the server and what comes from it.
struct Exchange<S> {
    stream: Pin<Box<S>>,
    commands: mpsc::UnboundedReceiver<Sent>,
    /// For the replies to come, in their order.
    waiting: VecDeque<oneshot::Sender<Result<Value, CommandError>>>,
    /// What is not written yet.
    output: Vec<u8>,
    /// What is not decoded yet.
    input: Vec<u8>,
    decoder: Decoder,
}

impl<S: AsyncRead + AsyncWrite> Exchange<S> {
    /// Why the connection ended. Neither direction waits for the other: a server that cannot get rid of its replies reads
    /// no commands. What it said before it went is read, even when nothing can be sent any more.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let sending = self.poll_send(context);
        match self.poll_receive(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => sending,
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while let Poll::Ready(sent) = self.commands.poll_recv(context) {
            let Some(Sent { command, reply }) = sent else {
                return Poll::Ready(io::ErrorKind::NotConnected.into());
            };
            command.write(&mut self.output);
            self.waiting.push_back(reply);
        }
        while !self.output.is_empty() {
            match ready!(self.stream.as_mut().poll_write(context, &self.output)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) => return Poll::Ready(error),
            }
        }
        match ready!(self.stream.as_mut().poll_flush(context)) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if self.input.is_empty() && self.input.capacity() > KEPT {
                self.input = Vec::new();
            }
            // At least as much again as there is: a long text is moved a few times only.
            self.input.reserve(CHUNK.max(self.input.len()));
            let read = pin!(self.stream.read_buf(&mut self.input));
            match ready!(read.poll(context)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
            let mut used = 0;
            loop {
                match self.decoder.next(&self.input, &mut used) {
                    Ok(Some(reply)) => self.answer(reply),
                    Ok(None) => break,
                    Err(malformed) => {
                        return Poll::Ready(io::Error::new(io::ErrorKind::InvalidData, malformed));
                    }
                }
            }
            self.input.drain(..used);
        }
    }

    /// Hands a reply to the one who has waited longest. What nobody asked for is dropped.
    fn answer(&mut self, reply: Reply) {
        if let Some(waiting) = self.waiting.pop_front() {
            // Who gave up waiting needs no reply.
            let _ = waiting.send(reply.map_err(CommandError::answer));
        }
    }
}
