/// Whether loops over numbers are compiled to run fast. Without that some tests take minutes; they run in the release tests.
public var isOptimized: Bool {
  #if DEBUG
    false
  #else
    true
  #endif
}
