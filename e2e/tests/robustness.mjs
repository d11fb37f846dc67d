/** Not yet. */
