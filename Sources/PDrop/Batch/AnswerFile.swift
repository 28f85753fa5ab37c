internal import Foundation
internal import Kernels

/// Where a batch's answers go: each is there whole and on the disk, or not at all.
final class AnswerFile {
  private let path: String
  private let name: String
  private let earlier: Batch.Earlier
  private var file: OpenFile

  /// Opens the file, without a change to what is in it, and keeps other runs from it.
  ///
  /// - Parameters:
  ///   - path: `-` for standard output.
  ///   - input: The file of the questions, which is never written to.
  init(path: String, earlier: Batch.Earlier, input: OpenFile?) throws(BatchError) {
    self.earlier = earlier
    guard path != "-" else {
      (self.path, name, file) = (path, "standard output", .standardOutput)
      return
    }
    // A link stays one when the file it leads to is replaced.
    self.path = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
    name = path
    let isThere = FileManager.default.fileExists(atPath: path)
    do { file = try OpenFile(appendingTo: self.path) } catch { throw .output(path, error) }
    if !isThere { Self.syncFolder(of: self.path) }
    guard file.isRegular else {
      if case .resume = earlier { throw .outputNotAFile(path: path) }
      return
    }
    guard file.identity != input?.identity else { throw .outputIsInput(path: path) }
    guard file.lock() else { throw .outputInUse(path: path) }
    guard earlier != .refuse || file.size == 0 else { throw .outputNotEmpty(path: path, byteCount: file.size) }
  }

  /// Brings the file into the state in which the next answer is to be appended.
  ///
  /// - Returns: What has been answered before.
  func begin() throws(BatchError) -> EarlierAnswers? {
    switch earlier {
    case .refuse: return nil
    case .overwrite:
      if file.isRegular, path != "-" { try changing { file throws(SystemError) in try file.truncate(to: 0) } }
      return nil
    case .resume(let retriesFailures):
      let answers = try EarlierAnswers(of: path)
      try changing { file throws(SystemError) in
        try file.truncate(to: answers.wholeByteCount)
        if answers.lacksLineFeed { try file.append([UInt8(ascii: "\n")]) }
        try file.sync()
      }
      guard retriesFailures, answers.failureCount > 0 else { return answers }
      return try removeFailures()
    }
  }

  /// Appends lines; when this returns they are on the disk.
  func append(_ lines: [UInt8]) throws(BatchError) {
    try changing { file throws(SystemError) in
      try file.append(lines)
      try file.sync()
    }
  }

  /// Replaces the file by one without error records, at once and as a whole.
  private func removeFailures() throws(BatchError) -> EarlierAnswers {
    let copyPath = path + ".retry"
    try? FileManager.default.removeItem(atPath: copyPath)
    var isReplaced = false
    defer { if !isReplaced { try? FileManager.default.removeItem(atPath: copyPath) } }
    let copy: OpenFile
    do { copy = try OpenFile(appendingTo: copyPath) } catch { throw .output(copyPath, error) }
    guard copy.lock() else { throw .outputInUse(path: name) }
    let kept = try EarlierAnswers(of: path, copyingAnswersTo: copy, at: copyPath)
    do throws(SystemError) {
      try copy.sync()
      try OpenFile.rename(copyPath, to: path)
    } catch {
      throw .output(copyPath, error)
    }
    isReplaced = true
    Self.syncFolder(of: path)
    file = copy
    return kept
  }

  private func changing(_ change: (OpenFile) throws(SystemError) -> Void) throws(BatchError) {
    do { try change(file) } catch { throw .output(name, error, isResumable: path != "-" && file.isRegular) }
  }

  /// A new name is on the disk only when its folder is.
  private static func syncFolder(of path: String) {
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    try? OpenFile(reading: folder).sync()
  }
}
