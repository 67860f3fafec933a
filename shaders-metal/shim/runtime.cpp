// The fibers of runtime.h. One threadgroup at a time for each thread of the process.
#include "runtime.h"
#include "switch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace msl {
namespace {

constexpr unsigned MOST_THREADS = 256;
constexpr unsigned MOST_SHARED = 16;
// Bytes of a fiber's stack.
constexpr unsigned long STACK = 64 << 10;
// Bytes of threadgroup memory of the smallest Apple GPU.
constexpr unsigned long SHARED_BYTES = 32 << 10;

enum State { READY, AT_BARRIER, IN_EXCHANGE, DONE };

struct Fiber {
    // Where its stack ends while another runs.
    void* end;
    char* stack;
    State state;
    // Where it waits.
    const void* site;
    // Exchanges so far: two in turn keep their values apart.
    unsigned turn;
};

struct Simdgroup {
    alignas(SLOT) unsigned char values[2][LANES][SLOT];
};

struct Machine {
    void (*body)();
    void* const* buffers;
    unsigned groups[3];
    unsigned group[3];
    unsigned threads;
    unsigned current;
    // Where the scheduler's stack ends while a fiber runs.
    void* scheduler;
    Fiber fibers[MOST_THREADS];
    Simdgroup simdgroups[MOST_THREADS / LANES];
    void* shared[MOST_SHARED];
    unsigned shared_count;
    unsigned long shared_bytes;
    unsigned random;
    // Threads whose fibers are at the end of what they did last.
    unsigned prepared;
    char complaint[160];
};

// Found without a call: the loader has room for a pointer.
__attribute__((tls_model("initial-exec"))) thread_local Machine* machine;

void leave() { msl_switch(&machine->fibers[machine->current].end, machine->scheduler); }

// What a fiber does, threadgroup after threadgroup.
void live() {
    for (;;) {
        machine->body();
        machine->fibers[machine->current].state = DONE;
        leave();
    }
}

void resume(unsigned index) {
    machine->current = index;
    msl_switch(&machine->scheduler, machine->fibers[index].end);
}

void complain(const char* what, unsigned thread) {
    if (machine->complaint[0] != 0) return;
    const unsigned* group = machine->group;
    snprintf(machine->complaint, sizeof machine->complaint, "%s (threadgroup %u, %u, %u, thread %u)", what, group[0],
             group[1], group[2], thread);
}

// Lets every simdgroup go on whose lanes all wait in the same exchange. Says whether there was one.
bool release_simdgroups() {
    bool any = false;
    for (unsigned first = 0; first < machine->threads; first += LANES) {
        Fiber* lanes = machine->fibers + first;
        unsigned waiting = 0;
        for (unsigned i = 0; i < LANES; i++) waiting += lanes[i].state == IN_EXCHANGE;
        if (waiting == 0) continue;
        for (unsigned i = 0; i < LANES; i++) {
            if (waiting < LANES) {
                if (lanes[i].state != IN_EXCHANGE) {
                    complain("some lanes of a simdgroup wait for this one, which is elsewhere", first + i);
                }
            } else if (lanes[i].site != lanes[0].site) {
                complain("lanes of a simdgroup wait for each other at two places", first + i);
            }
        }
        for (unsigned i = 0; i < LANES; i++) lanes[i].state = READY;
        any = true;
    }
    return any;
}

// Lets all threads go on that wait at the same barrier. Says whether there was one.
bool release_threadgroup() {
    Fiber* fibers = machine->fibers;
    unsigned waiting = 0;
    for (unsigned i = 0; i < machine->threads; i++) waiting += fibers[i].state == AT_BARRIER;
    if (waiting == 0) return false;
    for (unsigned i = 0; i < machine->threads; i++) {
        if (fibers[i].state != AT_BARRIER) complain("a barrier is not reached by this thread", i);
        else if (fibers[i].site != fibers[0].site) complain("threads wait at two barriers", i);
    }
    for (unsigned i = 0; i < machine->threads; i++) fibers[i].state = READY;
    return true;
}

void run_group(unsigned order) {
    unsigned turns[MOST_THREADS];
    for (unsigned i = 0; i < machine->threads; i++) {
        turns[i] = order == 1 ? machine->threads - 1 - i : i;
        Fiber& fiber = machine->fibers[i];
        fiber.state = READY;
        fiber.turn = 0;
    }
    machine->shared_count = 0;
    machine->shared_bytes = 0;
    do {
        for (unsigned i = machine->threads; order >= 2 && i > 1; i--) {
            machine->random = machine->random * 1664525u + 1013904223u;
            const unsigned other = (machine->random >> 8) % i;
            const unsigned turn = turns[i - 1];
            turns[i - 1] = turns[other];
            turns[other] = turn;
        }
        for (unsigned i = 0; i < machine->threads; i++) {
            if (machine->fibers[turns[i]].state == READY) resume(turns[i]);
        }
    } while (machine->complaint[0] == 0 && (release_simdgroups() || release_threadgroup()) && machine->complaint[0] == 0);
}

Machine* new_machine() {
    Machine* made = static_cast<Machine*>(calloc(1, sizeof(Machine)));
    for (Fiber& fiber : made->fibers) {
        fiber.stack = static_cast<char*>(aligned_alloc(16, STACK));
    }
    return made;
}

// Fibers for all threads, at their beginning: those that a complaint interrupted, and those that there were not yet.
void prepare() {
    if (machine->complaint[0] != 0) machine->prepared = 0;
    for (; machine->prepared < machine->threads; machine->prepared++) {
        Fiber& fiber = machine->fibers[machine->prepared];
        // Not all at the same distance from a page's end, where they would share a few lines of the cache.
        fiber.end = msl_begin(fiber.stack + STACK - machine->prepared % 64 * 128, live);
    }
}

} // namespace

void wait(Wait who, const void* site) {
    Fiber& fiber = machine->fibers[machine->current];
    fiber.state = who == THREADGROUP ? AT_BARRIER : IN_EXCHANGE;
    fiber.site = site;
    leave();
}

const unsigned char* exchange(const void* value, unsigned bytes, const void* site) {
    const unsigned index = machine->current;
    unsigned char(*values)[SLOT] = machine->simdgroups[index / LANES].values[machine->fibers[index].turn++ % 2];
    memcpy(values[index % LANES], value, bytes);
    wait(SIMDGROUP, site);
    return values[0];
}

void shared(void* memory, unsigned long bytes) {
    for (unsigned i = 0; i < machine->shared_count; i++) {
        if (machine->shared[i] == memory) return;
    }
    machine->shared_bytes += (bytes + 15) / 16 * 16;
    if (machine->shared_count == MOST_SHARED || machine->shared_bytes > SHARED_BYTES) {
        return complain("more threadgroup memory than there is", machine->current);
    }
    machine->shared[machine->shared_count++] = memory;
    memset(memory, 0xff, bytes);
}

unsigned lane() { return machine->current % LANES; }
unsigned local() { return machine->current; }
unsigned group(unsigned dimension) { return machine->group[dimension]; }
unsigned groups(unsigned dimension) { return machine->groups[dimension]; }
void* buffer(unsigned index) { return machine->buffers[index]; }

const char* run(void (*body)(), void* const* buffers, const unsigned* groups, unsigned threads, unsigned order) {
    if (threads > MOST_THREADS || threads % LANES != 0) return "a threadgroup is some whole simdgroups";
    if (machine == nullptr) machine = new_machine();
    machine->body = body;
    machine->buffers = buffers;
    machine->threads = threads;
    prepare();
    machine->random = order;
    machine->complaint[0] = 0;
    memcpy(machine->groups, groups, sizeof machine->groups);
    const unsigned count = groups[0] * groups[1] * groups[2];
    for (unsigned i = 0; i < count && machine->complaint[0] == 0; i++) {
        const unsigned index = order == 1 ? count - 1 - i : i;
        machine->group[0] = index % groups[0];
        machine->group[1] = index / groups[0] % groups[1];
        machine->group[2] = index / groups[0] / groups[1];
        run_group(order);
    }
    return machine->complaint[0] == 0 ? nullptr : machine->complaint;
}

} // namespace msl
