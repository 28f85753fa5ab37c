#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The entries of folders, with names as stored, which need not be UTF-8.
package enum Folder {
  package struct Entry: Sendable {
    package let name: ByteString
    /// Whether the entry is a folder; false for a symbolic link to one.
    package let isFolder: Bool

    package init(name: ByteString, isFolder: Bool) { (self.name, self.isFolder) = (name, isFolder) }
  }

  /// The entries of a folder, in no particular order, without `.` and `..`.
  package static func entries(of path: ByteString) throws(SystemError) -> [Entry] {
    guard let cPath = path.bytes.cString, let folder = unsafe opendir(cPath) else { throw .last(orInvalid: path) }
    defer { unsafe closedir(folder) }
    var entries: [Entry] = []
    while true {
      errno = 0
      guard let entry = unsafe readdir(folder) else { break }
      let name = unsafe Self.name(entry)
      guard name != [UInt8(ascii: ".")], name != Array("..".utf8) else { continue }
      let isFolder =
        switch unsafe Int32(entry.pointee.d_type) {
        case Int32(DT_DIR): true
        // Not every file system stores the type.
        case Int32(DT_UNKNOWN): Self.isFolder(path + ByteString([UInt8(ascii: "/")] + name))
        default: false
        }
      entries.append(Entry(name: ByteString(name), isFolder: isFolder))
    }
    guard errno == 0 else { throw .last }
    return entries
  }

  private static func name(_ entry: UnsafeMutablePointer<dirent>) -> [UInt8] {
    unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in unsafe Array(bytes.prefix { $0 != 0 }) }
  }

  private static func isFolder(_ path: ByteString) -> Bool {
    var status = stat()
    guard let cPath = path.bytes.cString, unsafe lstat(cPath, &status) == 0 else { return false }
    return status.st_mode & S_IFMT == S_IFDIR
  }
}
