/// Whether numeric loops are optimised. Some tests take minutes without optimisation and run in release builds only.
public var isOptimized: Bool {
  #if DEBUG
    false
  #else
    true
  #endif
}
