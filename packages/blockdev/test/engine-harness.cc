// The engine without JavaScript, for sanitizers and valgrind: g++ ... test/engine-harness.cc native/*.cc but addon.cc,
// arguments.cc and thread-engine.cc. Ends with 0, or says what is wrong.
//
//   engine-harness SEED ROUNDS   random operations on a file, sound and not
//   engine-harness before | behind | bounce   touches a page that nobody may touch, and dies of it

#include <sys/uio.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <vector>

#include "../native/bounce.h"
#include "../native/engine.h"
#include "../native/guarded-memory.h"
#include "../native/ranges.h"

using namespace blockdev;

namespace {

const uint32_t kDepth = 16;
const uint32_t kEntries = 3;
const size_t kPage = 4096;
const size_t kImagePages = 32;

[[noreturn]] void Fail(const char* what) {
  fprintf(stderr, "engine-harness: %s\n", what);
  exit(1);
}

struct Random {
  uint32_t state;
  uint32_t Below(uint32_t bound) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % bound;
  }
};

struct Work {
  uint32_t queue, slot;
  std::function<int()> run;
};

// One queue as JavaScript uses it.
struct Client {
  std::vector<double> operations = std::vector<double>(kDepth * kStagedWords);
  std::vector<double> iov = std::vector<double>(kDepth * kEntries * kIovWords);
  std::vector<int32_t> tags = std::vector<int32_t>(kDepth), results = std::vector<int32_t>(kDepth);
  std::shared_ptr<GuardedMemory> memory = GuardedMemory::Allocate(4 * kPage);
  Queue* queue = nullptr;

  void Attach(Engine& engine, int fd) {
    QueueFiles files;
    files.main = files.buffered = fd;
    queue = engine.AddQueue(kDepth, files);
    queue->staged = {operations.data(), iov.data(), iov.size()};
    queue->tags = tags.data();
    queue->results = results.data();
    queue->regions.push_back({memory->data(), memory->bytes()});
  }

  void Stage(Random& random, uint32_t at) {
    const double odd[] = {NAN, INFINITY, -INFINITY, -1, 0.5, 1e300, -1e300, 4294967296.0, 9007199254740992.0};
    auto number = [&](uint32_t most) -> double {
      return random.Below(10) == 0 ? odd[random.Below(sizeof(odd) / sizeof(*odd))] : random.Below(most);
    };
    double* words = &operations[at * kStagedWords];
    double sum = 0;
    uint32_t entries = 1 + random.Below(kEntries);
    for (uint32_t i = 0; i < entries; i++) {
      double* entry = &iov[(at * kEntries + i) * kIovWords];
      entry[0] = random.Below(20) == 0 ? number(3) : 0;
      entry[1] = number(3 * kPage);
      entry[2] = number(kPage);
      sum += entry[2];
    }
    // No zeroes are written: that may take the file system's time. A discard that is far too long is refused there.
    words[0] = random.Below(12) == 0 ? -number(200) : random.Below(kDiscard + 1);
    words[1] = at;
    words[2] = number(kImagePages * kPage);
    words[3] = random.Below(8) == 0 ? number(kPage) : sum;
    words[4] = random.Below(12) == 0 ? number(200) : at * kEntries * kIovWords;
    words[5] = random.Below(12) == 0 ? number(8) : entries;
  }
};

void Run(uint32_t seed, uint32_t rounds) {
  Random random{seed};
  std::vector<Work> works;
  Engine engine([&](uint32_t queue, uint32_t slot, std::function<int()> run) {
    works.push_back({queue, slot, std::move(run)});
  });
  if (engine.Open(true) < 0) {
    printf("no io_uring here\n");
    return;
  }
  char path[] = "/tmp/engine-harness-XXXXXX";
  int fd = mkstemp(path);
  if (fd < 0 || unlink(path) < 0 || ftruncate(fd, kImagePages * kPage) < 0) Fail("no file");
  Client clients[2];
  for (Client& client : clients) client.Attach(engine, fd);
  std::vector<int32_t> ready(2 * 4);
  uint64_t ended = 0, started = 0;
  for (uint32_t round = 0; round < rounds; round++) {
    Client& client = clients[random.Below(2)];
    uint32_t count = random.Below(kDepth - client.queue->in_flight + 1);
    for (uint32_t i = 0; i < count; i++) client.Stage(random, i);
    engine.Start(client.queue, count);
    started += count;
    bool settle = random.Below(4) == 0;
    do {
      for (Work& work : works) engine.WorkDone(work.queue, work.slot, work.run());
      works.clear();
      uint32_t pairs = engine.Reap(ready.data(), 1 + random.Below(4));
      for (uint32_t i = 0; i < pairs; i++) {
        auto completed = static_cast<uint32_t>(ready[2 * i + 1]);
        if (completed > kDepth) Fail("more completions than slots");
        ended += completed;
      }
    } while (settle && engine.in_flight() > 0);
  }
  while (engine.in_flight() > 0) {
    for (Work& work : works) engine.WorkDone(work.queue, work.slot, work.run());
    works.clear();
    uint32_t pairs = engine.Reap(ready.data(), 4);
    for (uint32_t i = 0; i < pairs; i++) ended += static_cast<uint32_t>(ready[2 * i + 1]);
  }
  if (ended != started) Fail("an operation ended never, or twice");
  for (Client& client : clients) engine.RemoveQueue(client.queue);
  engine.Drain(1);
  close(fd);
  printf("%llu operations\n", static_cast<unsigned long long>(ended));
}

void Touch(const char* where) {
  volatile char* at;
  auto memory = GuardedMemory::Allocate(100);
  if (!strcmp(where, "before")) {
    at = memory->data() - 1;
  } else if (!strcmp(where, "behind")) {
    at = memory->data() + memory->bytes();
  } else {
    Slot slot;
    slot.op = kRead;
    slot.left = kPage;
    auto bounce = MakeBounce(slot);
    at = bounce.get() + kPage;
  }
  printf("touching\n");
  fflush(stdout);
  *at = 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2) Touch(arguments[1]);
  else if (count == 3) Run(static_cast<uint32_t>(atoi(arguments[1])), static_cast<uint32_t>(atoi(arguments[2])));
  else Fail("arguments");
  return count == 2 ? 2 : 0;
}
