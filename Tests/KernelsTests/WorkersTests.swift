import Foundation
import Kernels
import Synchronization
import Testing

@Suite struct WorkersTests {
  @Test(arguments: [1, 2, 3, 8], [0, 1, 2, 3, 7, 100])
  func `every task is done once, by one of the workers`(count: Int, tasks: Int) {
    let calls = Mutex([Int](repeating: 0, count: tasks))
    let workers = Mutex(Set<Int>())
    Workers(count: count).run(tasks: tasks) { task, worker in
      calls.withLock { $0[task] += 1 }
      workers.withLock { _ = $0.insert(worker) }
    }
    #expect(calls.withLock { $0 } == [Int](repeating: 1, count: tasks))
    #expect(workers.withLock { $0 }.isSubset(of: Set(0..<count)))
  }

  @Test func `no worker does two tasks at a time`() {
    let busy = Mutex([Bool](repeating: false, count: 4))
    let clashes = Atomic(0)
    for _ in 0..<200 {
      Workers(count: 4).run(tasks: 16) { _, worker in
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

  @Test func `helpers take part, sleeping or awake`() {
    // Other tests may have the helpers, so that one call may well run on one thread: some must not.
    var meetings = 0
    for attempt in 0..<1000 where meetings < 20 {
      let arrived = Atomic(0)
      let met = Atomic(0)
      Workers(count: 2).run(tasks: 2) { _, _ in
        arrived.add(1, ordering: .relaxed)
        for _ in 0..<1000 where arrived.load(ordering: .relaxed) < 2 { usleep(10) }
        if arrived.load(ordering: .relaxed) == 2 { met.add(1, ordering: .relaxed) }
      }
      // One thread leaves its first task before it comes to the second.
      if met.load(ordering: .relaxed) == 2 { meetings += 1 }
      if attempt.isMultiple(of: 2) { usleep(500) }
    }
    #expect(meetings == 20)
  }

  @Test func `many callers at once each get all of their tasks`() async {
    await withTaskGroup(of: Int.self) { group in
      for caller in 0..<8 {
        group.addTask {
          var right = 0
          for round in 0..<300 {
            let sum = Atomic(0)
            let tasks = 1 + (round + caller) % 9
            Workers(count: 1 + caller % 4).run(tasks: tasks) { task, _ in sum.add(task + 1, ordering: .relaxed) }
            if sum.load(ordering: .relaxed) == tasks * (tasks + 1) / 2 { right += 1 }
          }
          return right
        }
      }
      for await right in group { #expect(right == 300) }
    }
  }

  @Test func `a task may run tasks of its own, as the worker that it is`() {
    let calls = Mutex([Int](repeating: 0, count: 40))
    let strangers = Atomic(0)
    Workers(count: 3).run(tasks: 10) { outer, worker in
      Workers(count: 3).run(tasks: 4) { inner, innerWorker in
        calls.withLock { $0[4 * outer + inner] += 1 }
        if innerWorker != worker { strangers.add(1, ordering: .relaxed) }
      }
    }
    #expect(calls.withLock { $0 } == [Int](repeating: 1, count: 40))
    #expect(strangers.load(ordering: .relaxed) == 0)
  }
}
