import Dispatch
import Foundation
import Kernels
import Synchronization
import Testing

@Suite struct WorkersTests {
  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 3, 7, 100])
  func `runs every task once, on one of the workers`(count: Int, tasks: Int) {
    let calls = Mutex([Int](repeating: 0, count: tasks))
    let workers = Mutex(Set<Int>())
    Workers(count: count, processors: count).run(tasks: tasks) { task, worker in
      calls.withLock { $0[task] += 1 }
      workers.withLock { _ = $0.insert(worker) }
    }
    #expect(calls.withLock { $0 } == [Int](repeating: 1, count: tasks))
    #expect(workers.withLock { $0 }.isSubset(of: Set(0..<count)))
  }

  @Test func `has no more threads than processors`() {
    #expect(Workers(count: 64, processors: 3).count <= 3)
    #expect(Workers(count: 64).count <= 64)
    #expect(Workers(count: 1, processors: 8).count == 1)
  }

  @Test func `a worker runs one task at a time`() {
    let busy = Mutex([Bool](repeating: false, count: 4))
    let clashes = Atomic(0)
    for _ in 0..<200 {
      Workers(count: 4, processors: 4).run(tasks: 16) { _, worker in
        let wasBusy = busy.withLock { busy in
          defer { busy[worker] = true }
          return busy[worker]
        }
        if wasBusy { clashes.add(1, ordering: .relaxed) }
        busy.withLock { $0[worker] = false }
      }
    }
    #expect(clashes.load(ordering: .relaxed) == 0)
  }

  @Test func `worker threads take part, spinning or asleep`() async {
    // The pool runs one job at a time, so other tests of this process could leave a call with a single thread.
    await #expect(processExitsWith: .success) {
      for round in 0..<100 {
        // Each task waits for the other one, so that both must run at the same time.
        let started = [DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)]
        let meetings = Atomic(0)
        Workers(count: 2, processors: 2).run(tasks: 2) { task, _ in
          started[1 - task].signal()
          if started[task].wait(timeout: .now() + 60) == .success { meetings.add(1, ordering: .relaxed) }
        }
        guard meetings.load(ordering: .relaxed) == 2 else { exit(EXIT_FAILURE) }
        // In every second round the worker thread has time to fall asleep; the result must not depend on it.
        if round.isMultiple(of: 2) { for _ in 0..<10_000 { sched_yield() } }
      }
    }
  }

  @Test func `concurrent calls run all of their tasks`() async {
    await withTaskGroup(of: Int.self) { group in
      for caller in 0..<8 {
        group.addTask {
          var correct = 0
          for round in 0..<300 {
            let sum = Atomic(0)
            let tasks = 1 + (round + caller) % 9
            Workers(count: 1 + caller % 4, processors: 4).run(tasks: tasks) { task, _ in
              sum.add(task + 1, ordering: .relaxed)
            }
            if sum.load(ordering: .relaxed) == tasks * (tasks + 1) / 2 { correct += 1 }
          }
          return correct
        }
      }
      for await correct in group { #expect(correct == 300) }
    }
  }

  @Test func `nested tasks run on the worker of the outer task`() {
    let calls = Mutex([Int](repeating: 0, count: 40))
    let otherWorkers = Atomic(0)
    Workers(count: 3, processors: 3).run(tasks: 10) { outer, worker in
      Workers(count: 3, processors: 3).run(tasks: 4) { inner, innerWorker in
        calls.withLock { $0[4 * outer + inner] += 1 }
        if innerWorker != worker { otherWorkers.add(1, ordering: .relaxed) }
      }
    }
    #expect(calls.withLock { $0 } == [Int](repeating: 1, count: 40))
    #expect(otherWorkers.load(ordering: .relaxed) == 0)
  }

  @Test func `the trace counts half of the time of two threads as waiting while one works`() async {
    // The trace covers all of the process.
    await #expect(processExitsWith: .success) {
      ThreadTrace.shared.turnOn()
      let compute = [1, 2].map { ComputeContext(workers: Workers(count: $0, processors: $0)) }
      func share(_ compute: ComputeContext) -> Double {
        compute.during(.prefill) { compute.during(.rank) { for _ in 0..<1000 { sched_yield() } } }
        return ThreadTrace.shared.takeWaitingShare()
      }
      guard compute.map(share) == [0, 0.5], ThreadTrace.shared.takeWaitingShare().isNaN else { exit(EXIT_FAILURE) }
    }
  }
}
