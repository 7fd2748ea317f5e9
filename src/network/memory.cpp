// What tch does not offer of libtorch: how much memory there is, is held, and is needed.
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>

namespace {

c10::DeviceAllocator* cuda_allocator() {
  return c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

constexpr auto ALL = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

// Bytes of the tensors that a thread makes and drops: how many, and how many at most at once. Its helpers may
// report too.
struct Meter : c10::MemoryReportingInfoBase {
  std::atomic<int64_t> held{0};
  std::atomic<int64_t> most{0};

  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    const int64_t now = held += bytes;
    int64_t before = most;
    while (now > before && !most.compare_exchange_weak(before, now)) {
    }
  }

  bool memoryProfilingEnabled() const override { return true; }
};

struct Measurement {
  std::shared_ptr<Meter> meter = std::make_shared<Meter>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, meter};
};

}  // namespace

// Bytes that libtorch holds on a CUDA device, in use or kept for the next tensor; -1 where it does not tell.
extern "C" int64_t convergd_cuda_held(int index) noexcept {
  try {
    const auto stats = cuda_allocator()->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    return stats.reserved_bytes[ALL].current;
  } catch (...) {
    return -1;
  }
}

// Bytes that this process can have of a CUDA device: those that nobody has, and those that libtorch keeps; -1
// where it does not tell.
extern "C" int64_t convergd_cuda_free(int index) noexcept {
  try {
    const auto device = static_cast<c10::DeviceIndex>(index);
    const auto stats = cuda_allocator()->getDeviceStats(device);
    const auto kept = stats.reserved_bytes[ALL].current - stats.allocated_bytes[ALL].current;
    return static_cast<int64_t>(cuda_allocator()->getMemoryInfo(device).first) + kept;
  } catch (...) {
    return -1;
  }
}

// Gives what libtorch keeps of all CUDA devices back to them. Returns 0, or 1 where that failed.
extern "C" int convergd_cuda_release() noexcept {
  // Without CUDA there is nothing to give back.
  if (c10::GetAllocator(c10::DeviceType::CUDA) == nullptr) return 0;
  try {
    if (cuda_allocator()->initialized()) cuda_allocator()->emptyCache();
    return 0;
  } catch (...) {
    return 1;
  }
}

// Begins to count what tensors of this thread take; null where libtorch refuses.
extern "C" void* convergd_measure() noexcept {
  try {
    return new Measurement;
  } catch (...) {
    return nullptr;
  }
}

// The most bytes at once since `measurement` began, which ends here, on the same thread.
extern "C" int64_t convergd_measured(void* measurement) noexcept {
  auto* ended = static_cast<Measurement*>(measurement);
  const int64_t most = ended->meter->most;
  delete ended;
  return most;
}
