declare module 'node-gyp-build' {
  /** Loads the addon of the package in `folder`: its own build, or the prebuild for this machine. */
  function load(folder: string): unknown;
  export = load;
}
