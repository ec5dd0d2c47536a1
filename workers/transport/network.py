"""A trainer's session to a server on another host, and how it finds back when the line breaks.

The vectors are memory of its own here; a push sends gradient and statistics, an answer brings weights. A line that
breaks does not end a trainer: it tries to reach the same server again for a while, joins anew, and goes on with the
step that the server gives it. The server may have applied a push whose answer was lost; its step says so, and nothing
is applied twice.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from workers.assignment import SERVER_WORKER, Assignment, Cause
from workers.failures import Failure, ServerLost
from workers.process import StopSignal
from workers.spec import RunSpec
from workers.transport import frames, tls
from workers.transport.agreed import way_of
from workers.transport.base import ANSWER_SECONDS, JOIN_SECONDS, Answer, Report, RunEnded
from workers.transport.fabric import TRAINER
from workers.transport.frames import Frame, FrameError, JoinBody, Kind
from workers.transport.link import Link, Speaker
from workers.transport.pieces import Range, Sender, gaps
from workers.transport.shared_memory import Slot, SlotSize
from workers.transport.tls import LINK_SECONDS, LinkLost, Unwelcome
from workers.transport.ways import Block, BlockName, TensorWay

REJOIN_SECONDS = 60.0
"""How long a trainer looks for a server that it has lost sight of."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.5


@dataclass(frozen=True)
class Line:
    """An open session: its connection, and how tensors travel."""

    link: Link
    way: TensorWay

    def close(self) -> None:
        self.way.close()
        self.link.close()


class NetworkSession:
    """`workers.transport.base.TrainerSession` over TLS.

    `leave` may be called from another thread than the one that waits for an answer; nothing else may.
    """

    def __init__(
        self, assignment: Assignment, stop: StopSignal, manifest: bytes, size: SlotSize, *, spec: RunSpec
    ) -> None:
        if assignment.tls is None:
            raise Failure(Cause.ENGINE, f"the server is at {assignment.endpoint}, but this trainer has no certificate")
        self._assignment, self._stop, self._manifest, self._spec = assignment, stop, manifest, spec
        self._address = tls.parse(assignment.endpoint)
        self._context = tls.contexts_of(assignment.tls, server=False)
        self._pinned = ssl.PEM_cert_to_DER_cert(assignment.tls.peer_certificate.decode())
        self._own = own = Slot.anonymous(size)  # other processes of this trainer can map it
        self.gradient, self.weights, self.buffers, self.served = own.vectors
        self.constants, self.memory = own.constants, own.memory
        self.examples = 0
        self._version = 0
        self._rejoined = False
        self._owed = True
        """Whether an answer is due: the server lets us hear then that the line carries."""
        self._word: Frame | None = None
        """Taken in by `waits`, for `answer`."""
        self._talking = threading.Lock()
        self._early = Sender(self._send_piece)
        self._line: Line | None = self._reach(JOIN_SECONDS)
        self._heard_at = time.monotonic()

    # ------------------------------------------------------------ joining

    def _reach(self, patience_seconds: float) -> Line:
        """Join, however often the line breaks meanwhile. Raises ServerLost when the patience is over."""
        deadline, pause = time.monotonic() + patience_seconds, PAUSE_SECONDS
        while not self._stop.requested:
            try:
                return self._join()
            except LinkLost as lost:
                if time.monotonic() > deadline:
                    raise ServerLost(f"no server answers at {self._assignment.endpoint}: {lost}") from None
            self._stop.wait(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
        raise RunEnded(completed=False)

    def _join(self) -> Line:
        """Open a session: prove who we are, and that we mean the same by every float; take the model's constants."""
        a = self._assignment
        try:
            connection = tls.connect(self._address, self._context, self._pinned)
        except Unwelcome as other:
            raise ServerLost(f"who listens at {a.endpoint} is not this epoch's server: {other}") from None
        link = Link(connection, Speaker(a.run, a.epoch, a.member, a.worker))
        way = way_of(self._spec, link, TRAINER)
        try:
            link.gather(Kind.JOIN, flags=frames.BY, body=JoinBody(self._manifest, way.name, a.run_key).pack())
            self._send_all(link)
            welcome = self._next(link, ANSWER_SECONDS)
            if welcome.kind != Kind.WELCOME or len(welcome.body) != frames.EXAMPLES.size:
                raise FrameError(f"expected WELCOME, got {Kind(welcome.kind).name}")
            (self.examples,) = frames.EXAMPLES.unpack(welcome.body)
            link.expect(Speaker(a.run, a.epoch, welcome.member, SERVER_WORKER))
            way.meet()
            way.receive([Block(BlockName.CONSTANTS, self.constants)])
        except BaseException:
            Line(link, way).close()
            raise
        return Line(link, way)

    def _send_all(self, link: Link) -> None:
        """Send what is gathered. The server may have said why before it hung up: that is raised rather."""
        try:
            link.flush()
        except LinkLost:
            self._hear_last_word(link)
            raise

    def _hear_last_word(self, link: Link) -> None:
        with suppress(LinkLost):
            while True:
                self._next(link, 0.0)

    def _next(self, link: Link, seconds: float = LINK_SECONDS) -> Frame:
        """The server's next frame. Raises RunEnded, Failure where it refuses us, and LinkLost."""
        try:
            frame = link.receive(seconds)
        except Unwelcome as refusal:
            raise Failure(Cause.FENCED, f"the server at {self._assignment.endpoint} refused us: {refusal}") from None
        if frame.kind == Kind.REFUSED:
            raise Failure(Cause.FENCED, f"the server refused this child: {frame.body.decode(errors='replace')}")
        if frame.kind == Kind.STOP:
            raise RunEnded(completed=bool(frame.flags & frames.COMPLETED))
        return frame

    # ------------------------------------------------------------ pushes and answers

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        if self._line is None or self._rejoined:
            return  # `answer` says with which step to go on instead
        link, way = self._line.link, self._line.way
        try:
            sent = self._early.finish()
            for gap in gaps(sent, self.gradient.numel()) if sent else ():
                self._send_piece(gap)
            if link.readable(0.0):
                self._take_word(link)  # it can only be a stop
            self._owed = True
            with self._talking:
                link.gather(
                    Kind.PUSH,
                    flags=frames.EARLY if sent else 0,
                    base_version=self._version,
                    step=step,
                    scale=scale or 0.0,
                    gradients=gradients,
                    body=report.pack(),
                )
                finite = math.isfinite(report.loss) and math.isfinite(report.gradient_norm)
                gradient = [] if sent else [Block(BlockName.GRADIENT, self.gradient, finite)]
                way.send([*gradient, Block(BlockName.BUFFERS, self.buffers)])
            self._heard_at = time.monotonic()
        except (LinkLost, Unwelcome):
            self._hear_last_word(link)
            self._lose_line()

    @property
    def piecewise(self) -> bool:
        """Whether a gradient may be given in pieces before its push."""
        return self._line is not None and self._line.way.piecewise

    def piece(self, piece: Range) -> None:
        """These floats of the gradient are final: send them soon. What is not given so goes with the push."""
        if self._line is not None and not self._rejoined:
            self._early.give(piece)

    def spoil(self) -> None:
        """A piece has changed since it was given: the push sends everything."""
        self._early.spoil()

    def _send_piece(self, piece: Range) -> None:
        line = self._line
        if line is None:
            raise LinkLost("the line is lost")
        with self._talking:
            line.link.gather(Kind.PIECE, body=piece.pack())
            line.way.send([Block(BlockName.GRADIENT, self.gradient[piece.start : piece.stop])])

    def answer(self) -> Answer:
        while True:
            line = self._line or self._come_back()
            deadline = time.monotonic() + ANSWER_SECONDS
            try:
                while self._word is None:
                    if time.monotonic() > deadline:
                        raise ServerLost(f"the server was silent for {ANSWER_SECONDS:.0f} s")
                    self._listen(line.link, LINK_SECONDS)
                return self._take_in(line, self._word)
            except LinkLost:
                self._lose_line()

    def _take_in(self, line: Line, frame: Frame) -> Answer:
        """Receive the weights that a frame has announced."""
        self._word = None
        with self._talking:
            line.way.receive([Block(BlockName.WEIGHTS, self.weights), Block(BlockName.SERVED, self.served)])
        self._version, self._owed = frame.version, False
        rejoined, self._rejoined = self._rejoined, False
        applied = not frame.flags & frames.NOT_APPLIED
        return Answer(frame.version, frame.step, applied, frame.gradients, frame.staleness, rejoined)

    def waits(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._word is None:
            link = (self._line or self._come_back()).link
            left = max(0.0, deadline - time.monotonic())
            if not link.pending:
                self._stop.wait(left, link)
            try:
                self._listen(link, 0.0)
            except LinkLost:
                self._lose_line()
            if left == 0.0 or self._stop.requested:
                break
        return self._word is not None

    def _listen(self, link: Link, seconds: float) -> None:
        """Wait for a word of the server; of beats only the time is kept. Raises LinkLost after silence."""
        if self._owed:
            seconds = min(seconds, max(0.0, self._heard_at + LINK_SECONDS - time.monotonic()))
        if link.readable(seconds):
            self._take_word(link)
        elif self._owed and time.monotonic() - self._heard_at >= LINK_SECONDS:
            raise LinkLost(f"nothing came in {LINK_SECONDS:.0f} s")

    def _take_word(self, link: Link) -> None:
        with self._talking:
            frame = self._next(link)
        self._heard_at = time.monotonic()
        if frame.kind == Kind.WEIGHTS and self._owed:
            self._word = frame
        elif frame.kind != Kind.BEAT:
            raise FrameError(f"a {Kind(frame.kind).name} out of place")

    # ------------------------------------------------------------ broken lines

    def _lose_line(self) -> None:
        self._word = None
        line, self._line = self._line, None
        if line is not None:
            line.link.break_off()  # whoever still talks over it finds it gone
            with self._talking:
                line.close()

    def _come_back(self) -> Line:
        line = self._reach(REJOIN_SECONDS)
        self._line, self._rejoined, self._owed = line, True, True
        self._heard_at = time.monotonic()
        return line

    def leave(self) -> None:
        """Say farewell. A line that is broken says it by itself."""
        with suppress(LinkLost, Unwelcome), self._talking:
            line = self._line
            if line is not None:
                line.link.gather(Kind.LEAVE)
                line.link.flush()
