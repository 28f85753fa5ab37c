internal import Kernels

/// Why a batch cannot begin or go on: its input or its output is at fault, not a record.
public enum BatchError: Error, Equatable, CustomStringConvertible {
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// On a disk whose file of answers can be gone on with, or where it cannot.
  case outOfRoom(path: String, reason: String, isResumable: Bool)
  case outputIsInput(path: String)
  case outputNotEmpty(path: String, byteCount: Int)
  case outputInUse(path: String)
  /// To go on from answers there must be a file of them.
  case outputNotAFile(path: String)
  case notAnAnswer(path: String, line: Int)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason): "\(path): cannot be read (\(reason))"
    case .unwritable(let path, let reason): "\(path): cannot be written to (\(reason))"
    case .outOfRoom(let path, let reason, true):
      "\(path): no room for the next answer (\(reason)); all before it are kept: make room and run again with --resume"
    case .outOfRoom(let path, let reason, false): "\(path): no room for the next answer (\(reason))"
    case .outputIsInput(let path): "\(path): is the input; give another file as --output"
    case .outputNotEmpty(let path, let byteCount):
      "\(path): has \(byteCount) bytes already; add --resume to go on behind them or --overwrite to begin anew"
    case .outputInUse(let path): "\(path): another run is writing to it; wait for its end or give another file"
    case .outputNotAFile(let path): "\(path): is not a regular file, so --resume finds no answers in it"
    case .notAnAnswer(let path, let line):
      "\(path): line \(line) is not an answer of a batch, so --resume leaves the file as it is; is it the right one?"
    }
  }

  static func output(_ path: String, _ error: SystemError, isResumable: Bool = false) -> BatchError {
    error.isOutOfRoom
      ? .outOfRoom(path: path, reason: "\(error)", isResumable: isResumable)
      : .unwritable(path: path, reason: "\(error)")
  }
}
