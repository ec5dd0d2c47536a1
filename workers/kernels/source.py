"""The C++ of a pass: the fragments of a run's compensation and optimizer, fused into one loop over blocks.

A block is so small that a server's vectors stay in the first-level cache while several gradients go in one after
another. What workers are sent is written past the caches where the vectors are larger than these and it is not read
here: the line would only be fetched to be overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import dedent, indent

from workers.methods.fragment import Fragment

BLOCK_FLOATS = 2048
EACH, MEAN, SEND = 0, 1, 2
"""What a walk does: a step for each part, one step along their mean, or none, only what workers are sent."""
MOST_SCALARS = 16
MOST_OWN = 2

HEAD = f"""\
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__SSE__)
#include <immintrin.h>
#endif

constexpr int64_t BLOCK = {BLOCK_FLOATS};

struct Group {{ int64_t start, stop; float first_scale, second_scale, first_decay, second_decay; }};
struct Plan {{ float* weights; float* const* shared; const Group* groups; int64_t group_count; int64_t streams; }};
struct Part {{
  const float* gradient; float* slot; float* own[{MOST_OWN}]; float share; float scalars[{MOST_SCALARS}];
}};
struct Walk {{ const Plan* plan; const Part* parts; int64_t count, mode, first, last; float ahead, unused; }};

static void send(float* to, const float* from, int64_t count, bool streams) {{
#if defined(__SSE__)
  if (streams && reinterpret_cast<uintptr_t>(to) % 16 == 0) {{
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    for (; i < count; i++) to[i] = from[i];
    return;
  }}
#endif
  std::memcpy(to, from, count * sizeof(float));
}}

static void settle(bool streams) {{
#if defined(__SSE__)
  if (streams) _mm_sfence();
#endif
}}
"""

ENTRIES = """\
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Elements `first` to `last` of the vectors. Mode 0: a step for each part, sent to all slots. 1: one step along the sum
// of all parts but the last, each times its share, by the last one's scalars and sent to its slot. 2: no step.
extern "C" void run(const Walk* walk) {
  const Plan* plan = walk->plan;
  const Part* parts = walk->parts;
  const int64_t count = walk->count, first = walk->first, last = walk->last;
  const bool streams = plan->streams != 0;
  alignas(64) float along[BLOCK];
  alignas(64) float sent[BLOCK];
  for (int64_t k = 0; k < plan->group_count; k++) {
    const Group& group = plan->groups[k];
    const int64_t end = least(group.stop, last);
    for (int64_t at = most(group.start, first); at < end; at += BLOCK) {
      const int64_t n = least(BLOCK, end - at);
      if (walk->mode == 1) {
        std::memset(along, 0, n * sizeof(float));
        for (int64_t p = 0; p + 1 < count; p++) adjust(plan, parts[p], group, at, n, along);
        step(plan, parts[count - 1], group, at, n, along);
        const float* out = ready(plan, parts[count - 1], group, walk->ahead, at, n, sent);
        send(parts[count - 1].slot + at, out, n, streams);
      } else {
        for (int64_t p = 0; p < count && walk->mode == 0; p++) both(plan, parts[p], group, at, n);
        const float* out = ready(plan, parts[count - 1], group, walk->ahead, at, n, sent);
        for (int64_t p = 0; p < count; p++) send(parts[p].slot + at, out, n, streams);
      }
    }
  }
  settle(streams);
}
"""


def source(compensation: Fragment | None, optimizer: Fragment) -> str:
    """The whole C++ file. A part's scalars are the compensation's, then the optimizer's."""
    first = _Rule("first", compensation, vectors_from=0, scalars_from=0)
    shared = len(compensation.shared) if compensation else 0
    scalars = len(compensation.scalars) if compensation else 0
    second = _Rule("second", optimizer, vectors_from=shared, scalars_from=scalars)
    sum_up = "along[i] += part.share * g;\n"
    takes = "const Plan* plan, const Part& part, const Group& group, int64_t at, int64_t n"
    adjusting = f"static void adjust({takes}, float* along)"
    stepping = f"static void step({takes}, const float* along)"
    fused = f"static void both({takes})"
    parts = [
        HEAD,
        _loop(adjusting, [first], before="float g = G[i]; const float w = W[i];", behind=sum_up),
        _loop(stepping, [second], before="float g = along[i]; float w = W[i];", behind="W[i] = w;\n"),
        _loop(fused, [first, second], before="float g = G[i]; float w = W[i];", behind="W[i] = w;\n"),
        _ready(first, compensation),
        ENTRIES,
    ]
    return "\n".join(parts)


class _Rule:
    """A fragment's names in the text: prefixed, so that two rules may use the same ones."""

    def __init__(self, prefix: str, fragment: Fragment | None, *, vectors_from: int, scalars_from: int) -> None:
        self.prefix, self.fragment = prefix, fragment
        self._shared = list(fragment.shared) if fragment else []
        self._own = list(fragment.own) if fragment else []
        self._scalars = list(fragment.scalars) if fragment else []
        self._vectors_from, self._scalars_from = vectors_from, scalars_from

    def scalars(self) -> Iterable[str]:
        """Loaded before the loop: a store into a float vector might change them, for all that the compiler knows."""
        for index, name in enumerate(self._scalars):
            yield f"const float {self.prefix}_{name} = part.scalars[{self._scalars_from + index}];"
        yield f"const float {self.prefix}_decay = group.{self.prefix}_decay;"
        yield f"const float {self.prefix}_scale = group.{self.prefix}_scale;"

    def vectors(self) -> Iterable[str]:
        for index, name in enumerate(self._shared):
            yield f"float* __restrict {self.prefix}_{name}_ = plan->shared[{self._vectors_from + index}] + at;"
        for index, name in enumerate(self._own):
            yield f"float* __restrict {self.prefix}_{name}_ = part.own[{index}] + at;"

    def shared_vectors(self) -> Iterable[str]:
        """To read only."""
        for index, name in enumerate(self._shared):
            yield f"const float* __restrict {self.prefix}_{name}_ = plan->shared[{self._vectors_from + index}] + at;"

    def constants(self) -> Iterable[str]:
        """A scalar's plain name, within an element's scope."""
        for name in [*self._scalars, "decay", "scale"]:
            yield f"const float {name} = {self.prefix}_{name};"

    def loads(self, kind: str = "float") -> Iterable[str]:
        for name in [*self._shared, *(self._own if kind == "float" else [])]:
            yield f"{kind} {name} = {self.prefix}_{name}_[i];"

    def body(self) -> str:
        if self.fragment is None:
            return ""
        stores = [f"{self.prefix}_{name}_[i] = {name};" for name in [*self._shared, *self._own]]
        lines = [*self.constants(), *self.loads(), *dedent(self.fragment.code).strip().splitlines(), *stores]
        return "{\n" + indent("\n".join(lines), "  ") + "\n}\n"


def _loop(head: str, rules: list[_Rule], *, before: str, behind: str) -> str:
    found = [r for r in rules if r.fragment is not None]
    reads_base = any(r.fragment is not None and r.fragment.reads_base for r in found)
    lines = [
        "const float* __restrict G = part.gradient + at;" if "G[i]" in before else "",
        "float* __restrict W = plan->weights + at;",
        "const float* __restrict B = part.slot + at;" if reads_base else "",
        *(line for r in found for line in (*r.scalars(), *r.vectors())),
        "#pragma GCC ivdep",
        "for (int64_t i = 0; i < n; i++) {",
        f"  {before}",
        "  const float base = B[i];" if reads_base else "",
        *(indent(r.body(), "  ") for r in found),
        f"  {behind}}}",
    ]
    return f"{head} {{\n" + indent("\n".join(line for line in lines if line), "  ") + "\n}\n"


def _ready(rule: _Rule, fragment: Fragment | None) -> str:
    """What workers are sent of a block: the weights themselves, or what a look-ahead makes of them."""
    head = (
        "static const float* ready(const Plan* plan, const Part& part, const Group& group, float ahead, int64_t at, "
        "int64_t n, float* sent)"
    )
    if fragment is None or not fragment.sends:
        return f"{head} {{\n  return plan->weights + at;\n}}\n"
    lines = [
        "const float* __restrict W = plan->weights + at;",
        *rule.scalars(),
        *rule.shared_vectors(),
        "#pragma GCC ivdep",
        "for (int64_t i = 0; i < n; i++) {",
        *(f"  {line}" for line in (*rule.constants(), *rule.loads("const float"))),
        "  const float w = W[i];",
        f"  sent[i] = {fragment.sends};",
        "}",
        "return sent;",
    ]
    return f"{head} {{\n" + indent("\n".join(lines), "  ") + "\n}\n"
