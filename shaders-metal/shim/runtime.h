// How a threadgroup runs on a CPU: its threads are fibers of one thread, which switch where they wait for each other.
#pragma once

namespace msl {

// Threads of a simdgroup.
constexpr unsigned LANES = 32;
// The most bytes that a lane gives to the others at a time.
constexpr unsigned SLOT = 16;

// Who is waited for.
enum Wait { THREADGROUP, SIMDGROUP };

// Waits until all of them are at `site`.
void wait(Wait who, const void* site);
// Gives `bytes` of `value` to the simdgroup, waits for the others, and says where the values of all lanes lie, SLOT bytes
// apart, until the exchange after the next.
const unsigned char* exchange(const void* value, unsigned bytes, const void* site);
// Memory of the threadgroup: filled with ones when its first thread comes by, for nobody may read what nobody wrote.
void shared(void* memory, unsigned long bytes);

// This thread.
unsigned lane();
unsigned local();
unsigned group(unsigned dimension);
unsigned groups(unsigned dimension);
void* buffer(unsigned index);

// Runs `body` as every thread of every threadgroup, the threads between two waits in an order of their own: 0 upwards, 1
// downwards, else at random. Returns nothing, or what is wrong.
const char* run(void (*body)(), void* const* buffers, const unsigned* groups, unsigned threads, unsigned order);

} // namespace msl
