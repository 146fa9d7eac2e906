//! Every sentence that the menu can say, once.
