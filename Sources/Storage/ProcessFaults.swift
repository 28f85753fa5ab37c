import CSignals
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The end of a process whose memory is exhausted, or whose mapped files were cut.
///
/// Neither can be thrown from where it is found. By default both end the process by a signal. A program chooses one
/// line of error and an exit status instead.
package enum ProcessFaults {
  private static let none: Int32 = -1
  private static let exitStatus = Atomic(none)

  /// Opens standard input, output and error if they are closed, so that no file of the run takes their place and gets
  /// the messages. Called once by a program, before it opens a file.
  package static func fillStandardFiles() { pdrop_fill_standard_files() }

  /// Ends the process with one line on stderr and this status from now on. Called once by a program, before its work.
  package static func exit(with status: Int32) {
    exitStatus.store(status, ordering: .relaxed)
    pdrop_exit_on_cut_files(status)
    if AddressSpace.limit != nil {
      pdrop_share_arena()
      pdrop_exit_on_abort(status)
    }
  }

  /// The line for a mapped file that was cut.
  static func cutFileLine(_ path: String) -> String {
    "error: \(path.pathExcerpt): the file was cut while it was in use, or its disk failed; restore it and run again\n"
  }

  /// Ends the process because `bytes` could not be allocated.
  static func memoryIsExhausted(allocating bytes: Int) -> Never {
    let status = exitStatus.load(ordering: .relaxed)
    let problem = "memory is exhausted: \(bytes) bytes more are needed"
    precondition(status != none, problem)
    let remedy =
      AddressSpace.limit == nil
      ? "use a machine with more memory" : "raise the limit on address space (ulimit -v), or use fewer threads (-t 1)"
    let line = Array("error: \(problem); \(remedy)\n".utf8)
    unsafe line.withUnsafeBytes { bytes in _ = unsafe write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
    _exit(status)
  }
}
